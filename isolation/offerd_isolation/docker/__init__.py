"""Executors in containers of a Docker engine.

pause          the one program that a container runs by itself
engine         calls to the engine, each with a time-out
images         is the image here, or is it to be pulled
configuration  what the engine is told of a container
group          the container's cgroup: limits, usage, kills
v1             files of cgroup v1, used as those of v2 are
running        a container's limits: wanted, written, told to the engine
kills          of which task a kill or a refused process is told
module         the isolation module
"""
