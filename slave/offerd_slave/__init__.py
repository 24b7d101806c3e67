"""The slave: a pure core, checkpoints, sandboxes, the launch of executors and the daemon around them."""
