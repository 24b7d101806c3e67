"""The parts of the schedulers' and executors' drivers."""
