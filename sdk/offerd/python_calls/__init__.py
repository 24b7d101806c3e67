"""Python calls as tasks: what `ClusterExecutor` and the executor `python` share."""
