"""One module for each command of `offerd`; `command` in it is what click runs. Listed in `offerd_cli.main.COMMANDS`."""
