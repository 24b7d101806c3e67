"""Start executors: zygote, shims, spawners. docs/architecture.md shows which process forks which."""
