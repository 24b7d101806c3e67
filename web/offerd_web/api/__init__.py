"""What HTTP clients may ask and order."""
