"""The answer of a handler whose disk has refused something."""

from __future__ import annotations

from volumed.bus.router import Reply
from volumed.storage.fileio import disk_error

__all__ = ["refuse"]


def refuse(reply: Reply, doing: str, error: Exception) -> None:
    """Answer with ``<doing>: <reason>`` for what the disk has refused, with anything else as it is."""
    reply.error(disk_error(doing, error) if isinstance(error, OSError) else error)
