"""Pure codecs of what is on disk and in identifiers: no I/O, nothing of the project but `volumed.errors`."""
