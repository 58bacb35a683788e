"""What can go wrong with an object store."""

from __future__ import annotations

from volumed.errors import ClientError, RetryError

__all__ = ["RemoteError", "TooManyRemoteReads", "UnknownBackend"]


class RemoteError(RetryError):
    """An object store refused, or did not answer. ``may_pass``: the same request may succeed a moment later."""

    default_code = ClientError.default_code

    may_pass = False

    @classmethod
    def refused(cls, code: str, message: str, status: int, request_id: str) -> RemoteError:
        """The answer was an error; the text is what the reference's client makes of it."""
        error = cls(f"{code}: {message}\n\tstatus code: {status}, request id: {request_id}, host id: ")
        error.may_pass = status >= 500 or status == 429
        return error

    @classmethod
    def unreachable(cls, reason: object) -> RemoteError:
        """There was no answer, or not the whole of it."""
        error = cls(f"RequestError: send request failed\ncaused by: {reason}")
        error.may_pass = True
        return error

    @classmethod
    def during(cls, doing: str, cause: RemoteError) -> RemoteError:
        """With what was being done."""
        error = cls(f"{doing}: {cause.text}")
        error.may_pass = cause.may_pass
        return error


class UnknownBackend(ClientError):
    """A backend that the master has told nothing of."""

    @classmethod
    def on_load(cls, name: str) -> UnknownBackend:
        return cls(f"backend storage {name} not found")

    @classmethod
    def as_destination(cls, name: str, known: list[str]) -> UnknownBackend:
        return cls(f"destination {name} not found, supported: [{' '.join(known)}]")

    @classmethod
    def as_source(cls, name: str, known: list[str]) -> UnknownBackend:
        return cls(f"remote storage {name} not found from supported: [{' '.join(known)}]")


class TooManyRemoteReads(RetryError):
    """Reads wait for object stores already, as many as may."""

    default_code = ClientError.default_code

    @classmethod
    def of(cls, waiting: int) -> TooManyRemoteReads:
        return cls(f"{waiting} reads of the remote tier are waiting already")
