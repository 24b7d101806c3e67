"""The master: a pure core, allocation modules and the daemon around them."""
