"""The supervising process: sockets, processes, disk states, membership in the cluster. It never touches a data disk."""
