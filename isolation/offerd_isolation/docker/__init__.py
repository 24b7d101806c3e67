"""Executors in containers of a Docker engine.

pause     the one program that a container runs by itself
engine    calls to the engine, each with a time-out
images    is the image here, or is it to be pulled
group     the container's cgroup, v1 or v2: limits, usage, kills
kills     of which task a kill or a refused process is told
module    the isolation module
"""
