"""What an HTTP/2 client may use: streams, windows, frames and heads (docs/spec/http.md 1.5)."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

__all__ = ["EXTRA_WINDOW_BYTES", "FRAME_BYTES_MAX", "HEADERS_BYTES_MAX", "STREAMS_MAX", "FrameLengths", "new_h2"]

STREAMS_MAX = 250
"""At a time."""
FRAME_BYTES_MAX = 64 << 10
HEADERS_BYTES_MAX = 128 << 10
"""DEVIATE: the reference takes 1 MiB. Decoding that much would hold up everybody else for more than a second."""
_STREAM_WINDOW_BYTES = 1 << 20
_CONNECTION_WINDOW_BYTES = 8 << 20
"""What a connection holds at most of bodies that nobody reads."""
_DEFAULT_WINDOW_BYTES = 65_535
EXTRA_WINDOW_BYTES = _CONNECTION_WINDOW_BYTES - _DEFAULT_WINDOW_BYTES
"""To be added to the window that a connection begins with."""

_PREFACE_BYTES = 24
_FRAME_HEAD_BYTES = 9


def new_h2() -> H2Connection:
    """The server's side of a connection."""
    config = H2Configuration(
        client_side=False, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    connection = H2Connection(config)
    connection.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
            SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW_BYTES,
            SettingCodes.MAX_FRAME_SIZE: FRAME_BYTES_MAX,
            SettingCodes.MAX_HEADER_LIST_SIZE: HEADERS_BYTES_MAX,
        },
    )
    connection.max_inbound_frame_size = FRAME_BYTES_MAX
    connection.decoder.max_header_list_size = HEADERS_BYTES_MAX
    return connection


class FrameLengths:
    """Watches the lengths that frames announce: `h2` would collect all of an overlong one before it complains."""

    def __init__(self) -> None:
        self._left = _PREFACE_BYTES
        """Bytes until the next frame."""
        self._head = b""

    def accept(self, data: bytes) -> bool:
        """Whether the frames in the next segment are short enough."""
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            missing = _FRAME_HEAD_BYTES - len(self._head)
            self._head += data[at : at + missing]
            at += missing
            if len(self._head) == _FRAME_HEAD_BYTES:
                self._left = int.from_bytes(self._head[:3])
                self._head = b""
                if self._left > FRAME_BYTES_MAX:
                    return False
        return True
