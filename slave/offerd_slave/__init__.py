"""The node agent: a pure core, checkpoints, sandboxes, launcher and the daemon around them."""
