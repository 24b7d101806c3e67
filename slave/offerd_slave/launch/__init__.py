"""From the slave's word to a running executor: zygote, shims, spawners. docs/architecture.md shows who forks whom."""
