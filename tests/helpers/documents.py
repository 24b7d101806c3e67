"""The commands that documents show, unchanged."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "deploy/README.md", "examples/README.md", "docs/*.md")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```|((?:^    .*\n)+)", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s+# .*$")
_COMMAND = re.compile(r"(?:[A-Z_]+=\S* )*(?:offerd|make|deploy/\S+|\.venv/bin/\S+) ")


def documents() -> list[str]:
    """The documents for people, by their path in the checkout."""
    return sorted(str(path.relative_to(ROOT)) for name in DOCUMENTS for path in ROOT.glob(name))


def commands(document: str, *, after: str = "") -> list[str]:
    """All commands of a document, or those of the first block after some words: without prompts and comments, one per line."""
    text = (ROOT / document).read_text()
    blocks = list(_BLOCK.finditer(text, text.index(after)))
    found = [_of_block(*block.groups(default="")) for block in (blocks[:1] if after else blocks)]
    return [command for each in found for command in each]


def _of_block(language: str, fenced: str, indented: str) -> list[str]:
    """Lines after a prompt, all lines of a shell block, or indented lines that begin like a command."""
    lines = re.sub(r" *\\\n *", " ", fenced or indented).splitlines()
    if language == "sh":
        found = [line for line in lines if line.strip()]
    elif fenced:
        found = [line.removeprefix("$ ") for line in lines if line.startswith("$ ") and not language]
    else:
        found = [re.split("  ", line[4:])[0] for line in lines if _COMMAND.match(line[4:])]
    return [_COMMENT.sub("", line).rstrip() for line in found]
