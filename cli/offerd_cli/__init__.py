"""The `offerd` command."""
