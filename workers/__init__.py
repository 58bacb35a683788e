"""The disk worker: one process per data directory, the only one that changes anything below it."""
