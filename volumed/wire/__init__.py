"""Messages and stubs of the wire contract, generated from ``proto/`` when the package is built."""
