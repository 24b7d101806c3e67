"""Messages over ZeroMQ: frames, sockets, bounds, and text from peers."""
