"""Needles of erasure coded volumes: found, read from shards here and elsewhere, and deleted."""
