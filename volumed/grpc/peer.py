"""Another volume server as its client sees it (docs/spec/grpc.md 7.1): its answers, and what its errors become."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import grpc

from volumed.codes import Code, rpc_error_text
from volumed.errors import VolumedError
from volumed.grpc import texts
from volumed.grpc.streams import Call
from volumed.security.endpoints import check_peer_target
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

__all__ = ["Peer", "PeerError", "check_source"]


class PeerError(VolumedError):
    """A peer's status: its code, and a text that names both."""

    def __init__(self, text: str, code: Code | None = None, detail: str = "") -> None:
        super().__init__(text, code)
        self.detail = detail
        """The text alone."""

    @classmethod
    def of(cls, error: grpc.RpcError) -> PeerError:
        code, detail = error.code(), error.details() or ""
        return cls(rpc_error_text(code.name, detail), Code(code.value[0]), detail)

    def under(self, what: str) -> VolumedError:
        """The same with a text in front."""
        return VolumedError(f"{what}{self.text}", self.code)


class Peer:
    """A connection for one call of ours, closed with it. A context manager; the methods raise `PeerError`."""

    def __init__(self, channel: grpc.Channel, call: Call) -> None:
        """``channel`` is taken over. When ``call`` ends, so does what waits here."""
        self._channel = channel
        self._stub = VolumeServerStub(self._channel)
        call.when_ended(self._channel.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def ask(self, method: str, request: Any, timeout_s: float) -> Any:
        """The response of a unary call."""
        with _errors_named():
            return getattr(self._stub, method)(request, timeout=timeout_s)

    def stream(self, method: str, request: Any) -> Iterator[Any]:
        """The responses of a stream, read as they are used."""
        with _errors_named():
            yield from getattr(self._stub, method)(request)


def check_source(source: str) -> list[str]:
    """Refuse to fetch from where a caller may not send us (docs/spec/grpc.md 3.28). The addresses to connect to.
    Raises `VolumedError`."""
    try:
        return check_peer_target(source)
    except VolumedError as error:
        raise VolumedError(texts.untrusted_source(source, error.text)) from None


@contextmanager
def _errors_named() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise PeerError.of(error) from None
    except ValueError as error:
        # The library's word for a channel that was closed.
        raise PeerError(rpc_error_text("CANCELLED", str(error)), Code.CANCELLED) from None
