"""What the drivers of schedulers and executors are made of."""
