"""Reading, writing and deleting needles over HTTP; the needle lane is the short way through them."""
