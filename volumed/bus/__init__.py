"""Messages between the processes of the node, over ZeroMQ: frames, typed calls and events, both ends of a link."""
