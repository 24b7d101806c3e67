"""What the routes use: the view of the cluster, who asks, and the ways to the master and the slaves."""
