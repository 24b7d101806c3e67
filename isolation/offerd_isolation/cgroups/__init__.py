"""The `cgroups` module: limits by cgroup v2, for each executor and for each task.

host         which cgroup is ours to divide, or why there is none
contents     descriptors of control files, cgroupspy's extended for v2's contents
controllers  one small class for each controller: its files, what they are set to, what they tell
limits       what one cgroup is held to, from resources and the slave's options
memory_held  what memory is held, and how far its limit may be lowered for that
tree         directories: made, killed, removed
oom          which limit a killed process had hit
container    one container's cgroups, their limits, and who was killed in them
notices      a descriptor that tells when memory.events changes
module       `CgroupsIsolation`
"""
