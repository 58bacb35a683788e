"""Following a volume: the records that are newer than a time, and then whatever comes (docs/spec/grpc.md 3.23)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from volumed.errors import CorruptNeedle, StaleGeneration, VolumedError
from volumed.formats.needle import HEADER_LENGTH, append_time_offset
from volumed.grpc import texts
from volumed.grpc.local_volumes import LocalVolumes
from volumed.grpc.node import GrpcNode
from volumed.grpc.streams import Call
from volumed.storage.fileio import disk_error
from volumed.storage.mounted import MountedVolume
from volumed.storage.record_scan import BlockReader, RecordHeader, scan_headers
from volumed.wire import volume_server_pb2 as pb

__all__ = ["TailServicer"]

_ROUND_S = 2.0
_PIECE_BYTES_MAX = 2 << 20
_PIECE_BYTES_MIN = 32 << 10
_PIECES_BYTES = 64 << 20
"""What the pieces of all streams may take together: with many streams they become smaller."""
_TIME_LENGTH = 8
_VERSION_WITH_TIME = 3


class TailServicer:
    """VolumeTailSender."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node
        self._volumes = LocalVolumes(node)
        self._lock = threading.Lock()
        self._streams = 0

    def volume_tail_sender(
        self, request: pb.VolumeTailSenderRequest, call: Call
    ) -> Iterator[pb.VolumeTailSenderResponse]:
        """Rounds of two seconds, until there was nothing new in as many as the request says in a row."""
        self._volumes.find(request.volume_id, texts.no_such_volume_id(request.volume_id))
        follower = _Follower(self._volumes, request.volume_id, request.since_ns)
        patience = request.idle_timeout_seconds
        self._node.is_endless(call)
        with self._counted():
            while not call.ended:
                news = False
                for message in self._round(follower):
                    news = True
                    yield message
                if not news:
                    yield pb.VolumeTailSenderResponse(is_last_chunk=True, version=follower.version)
                if call.wait(_ROUND_S):
                    return
                patience = request.idle_timeout_seconds if news else patience - 1
                if request.idle_timeout_seconds and not patience:
                    return

    def _round(self, follower: _Follower) -> Iterator[pb.VolumeTailSenderResponse]:
        try:
            yield from follower.news(self._piece_bytes())
        except VolumedError as error:
            raise VolumedError(texts.tail_failed(error.text), error.code) from None

    def _piece_bytes(self) -> int:
        return min(_PIECE_BYTES_MAX, max(_PIECE_BYTES_MIN, _PIECES_BYTES // max(1, self._streams)))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._streams += 1
        try:
            yield
        finally:
            with self._lock:
                self._streams -= 1


class _Follower:
    """How far one stream has come in its volume. While nothing is new, no file is open and no disk is asked."""

    def __init__(self, volumes: LocalVolumes, volume_id: int, since_ns: int) -> None:
        self._volumes = volumes
        self._volume_id = volume_id
        self._since_ns = since_ns
        self._generation = 0
        self._end = 0
        """All records before this are sent, as long as the volume keeps its generation."""
        self.version = 0

    def news(self, piece_bytes: int) -> Iterator[pb.VolumeTailSenderResponse]:
        """The records that came since the last round. Raises `VolumedError`."""
        handle = self._volumes.find(self._volume_id, texts.no_such_volume_id(self._volume_id))
        state = self._volumes.state(handle)
        self.version = state.record.version
        known = state.record.generation == self._generation
        if known and state.end == self._end:
            return
        try:
            volume = self._volumes.open(handle, state)
            start = self._end if known and self._end else self._search(volume)
        except StaleGeneration:
            # Being replaced right now: the next round finds the new files.
            return
        if start is not None:
            yield from self._send(volume, start, piece_bytes, all_of_them=known or not self._generation)
        self._generation, self._end = state.record.generation, state.end

    def _search(self, volume: MountedVolume) -> int | None:
        """Where to begin in a volume that is new to the stream, or has been rewritten since the last round: then it is
        no more in the order of time, and, unless nothing is new in it, all of it has to be looked at."""
        if not self._generation or volume.version < _VERSION_WITH_TIME:
            return volume.first_newer(self._since_ns)
        return volume.records_at() if volume.state.progress.last_append_at_ns > self._since_ns else None

    def _send(
        self, volume: MountedVolume, start: int, piece_bytes: int, *, all_of_them: bool
    ) -> Iterator[pb.VolumeTailSenderResponse]:
        reader = BlockReader(volume.files, volume.dat, piece_bytes)
        since_ns, end = self._since_ns, start
        try:
            for header in scan_headers(reader, start, volume.state.end, volume.version):
                time_ns = _append_time(reader, header, volume.version)
                if all_of_them or time_ns > since_ns:
                    yield from _messages(reader, header, volume.version, piece_bytes)
                    self._since_ns = max(self._since_ns, time_ns)
                end = header.offset + header.length
        except OSError as error:
            raise disk_error(f"read {volume.dat.path}", error) from error
        if end != volume.state.end:
            raise CorruptNeedle(texts.bad_header(end))


def _messages(
    reader: BlockReader, header: RecordHeader, version: int, piece_bytes: int
) -> Iterator[pb.VolumeTailSenderResponse]:
    head = bytes(reader.read(header.offset, HEADER_LENGTH))
    at, end = header.offset + HEADER_LENGTH, header.offset + header.length
    while at < end:
        piece = bytes(reader.read(at, min(piece_bytes, end - at)))
        if not piece:
            raise CorruptNeedle.eof()
        at += len(piece)
        yield pb.VolumeTailSenderResponse(
            needle_header=head, needle_body=piece, is_last_chunk=at == end, version=version
        )


def _append_time(reader: BlockReader, header: RecordHeader, version: int) -> int:
    """In ns since 1970; 0 when the version keeps no times."""
    if version < _VERSION_WITH_TIME:
        return 0
    return int.from_bytes(reader.read(header.offset + append_time_offset(header.size), _TIME_LENGTH), "big")
