"""Status codes of errors (docs/spec/grpc.md, conventions)."""

from __future__ import annotations

import enum

__all__ = ["Code", "rpc_error_text"]


class Code(enum.IntEnum):
    """Status of an error; the numbers are those of gRPC."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


def rpc_error_text(code: str, details: str | None) -> str:
    """An error of a call as the reference's clients word it: they write `NotFound` for ``NOT_FOUND``."""
    name = "Canceled" if code == "CANCELLED" else code.title().replace("_", "")
    return f"rpc error: code = {name} desc = {details or ''}"
