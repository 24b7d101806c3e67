"""Executors in containers of a Docker engine.

pause          the one program that a container runs by itself
engine         calls to the engine, each with a time-out
images         find an image, or pull it
configuration  a container's configuration, as the engine's API takes it
group          the container's cgroup: limits, usage, kills
v1             files of cgroup v1, with the interface of those of v2
running        a container's limits: wanted, written, known to the engine
kills          for which task a kill or a refused process is reported
module         the isolation module
"""
