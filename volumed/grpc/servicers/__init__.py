"""Handlers of the service, one module per family. A handler takes a request message and returns a response."""

__all__: list[str] = []
