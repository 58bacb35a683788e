"""One disk: its files, its needle map, and what a front may read of both."""
