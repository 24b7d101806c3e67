"""Messages over ZeroMQ: frames and sockets."""
