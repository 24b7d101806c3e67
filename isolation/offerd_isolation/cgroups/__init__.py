"""The `cgroups` module: limits by cgroup v2, for each executor and for each task.

host         which cgroup the slave may divide, or why there is none
contents     descriptors for control files: cgroupspy's, extended for the formats of v2
controllers  one small class for each controller: its files, and how to set and read them
limits       the limits of one cgroup, from resources and the slave's options
memory_held  how much memory is in use, and how far a limit may be lowered
tree         make, kill and remove cgroup directories
oom          which limit a killed process had hit
container    one container's cgroups, their limits, and which tasks were killed in them
notices      a descriptor that becomes readable when memory.events changes
module       `CgroupsIsolation`
"""
