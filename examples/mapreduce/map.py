#!/usr/bin/env python3
"""A mapper for Hadoop Streaming, as people have written them since 2008; it runs here unchanged."""

import sys

for line in sys.stdin:
    words = line.split()
    sys.stderr.write(f"reporter:counter:Words,seen,{len(words)}\n")
    for word in words:
        print(f"{word}\t1")
