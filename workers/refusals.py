"""What a caller is told when the disk has refused something."""

from __future__ import annotations

from typing import TypeVar

from volumed.bus.router import Reply
from volumed.errors import DiskError
from volumed.storage.fileio import file_error

__all__ = ["refusal", "refuse"]

E = TypeVar("E", bound=BaseException)


def refusal(doing: str, error: E) -> E | DiskError:
    """``<doing>: <path>: <reason>`` of what the disk has refused, anything else as it is."""
    return file_error(doing, error) if isinstance(error, OSError) else error


def refuse(reply: Reply, doing: str, error: BaseException) -> None:
    """Answer with the `refusal`."""
    reply.error(refusal(doing, error))
