"""Messages on ZeroMQ: frames, sockets, bounds, and text that peers have sent."""
