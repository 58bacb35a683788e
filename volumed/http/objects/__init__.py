"""Needles and files made of them: read, received, stored and passed on to other servers."""
