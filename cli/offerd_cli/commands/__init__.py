"""One module for each command of `offerd`; its `command` is what click runs. `offerd_cli.main.COMMANDS` lists them."""
