"""Files of erasure coded volumes on their way from another server to a disk here (docs/spec/erasure-coding.md 5.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from volumed.bus.ec_calls import MergeJournal
from volumed.bus.file_calls import OpenEcFile
from volumed.codes import Code
from volumed.config.node import DiskConfig
from volumed.erasure.errors import OtherEncodeRun
from volumed.erasure.journal import ID_LENGTH, decode_journal
from volumed.erasure.names import INDEX, INFO, JOURNAL
from volumed.errors import DiskError, VolumedError
from volumed.formats.vif import decode_vif
from volumed.formats.volumename import format_base_name
from volumed.grpc.incoming import IncomingFile
from volumed.grpc.node import GrpcNode
from volumed.grpc.peer import Peer, PeerError
from volumed.storage.throttle import Throttle
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcPull"]

_ANY_REVISION = (1 << 32) - 1
_WHOLE_FILE = (1 << 63) - 1
_JOURNAL_TIMEOUT_S = 600.0
_INFO_BYTES_MAX = 1 << 20
_FOLDS_MAX = 10
"""Nobody folds that often while an index is copied."""


@dataclass(frozen=True, slots=True)
class EcPull:
    """From one server to one disk. The methods raise `VolumedError`."""

    node: GrpcNode
    peer: Peer
    throttle: Throttle
    volume_id: int
    collection: str
    disk_id: int

    def shard(self, extension: str) -> None:
        """Bring a shard here. It gets its name when it is complete and flushed."""
        self._file(extension, may_be_missing=False)

    def require_run(self, here: set[int]) -> None:
        """Before anything is replaced: the source has nothing of another encode run than what is ``here`` (R17)."""
        # DEVIATE: the reference mixes the shards of two encode runs, which then give wrong bytes, and replaces the
        # index.
        if not here:
            return
        theirs = self._encode_run()
        if theirs and here != {theirs}:
            raise OtherEncodeRun.to_copy(self.volume_id, theirs, here - {theirs})

    def _encode_run(self) -> int:
        """Identity of the encode run that the source has (3.7); 0: unknown."""
        content = b""
        for message in self._messages(INFO, may_be_missing=True):
            content += message.file_content
            if len(content) > _INFO_BYTES_MAX:
                raise VolumedError(f"source {INFO} has more than {_INFO_BYTES_MAX} bytes")
        config = decode_vif(content).ec_shard_config
        return config.encode_ts_ns if config is not None else 0

    def index(self) -> int:
        """Bring the `.ecx` here, if there is none yet; deletions that only the other one has go to the journal. Returns
        when the source has changed it last, for `journal`."""
        return self._file(INDEX, may_be_missing=False)

    def sidecar(self, extension: str) -> None:
        """Bring `.vif` or `.ecsum` here, if the source has it."""
        self._file(extension, may_be_missing=True)

    def journal(self, index_at_ns: int | None = None) -> None:
        """Add the deletions that the source knows of (R1). ``index_at_ns`` is what `index` has returned: what the
        source has moved from its journal into its index since then is fetched from there."""
        for _ in range(_FOLDS_MAX):
            self._add_journal()
            if index_at_ns is None or index_at_ns == self._changed_at_ns(INDEX):
                return
            index_at_ns = self.index()
        raise VolumedError(f"source {INDEX} changes all the time")

    def _add_journal(self) -> None:
        rest = b""
        for message in self._messages(JOURNAL, may_be_missing=True):
            content = rest + message.file_content
            whole = len(content) - len(content) % ID_LENGTH
            rest = content[whole:]
            self._merge(decode_journal(content[:whole]))

    def _merge(self, keys: list[int]) -> None:
        if keys:
            merge = MergeJournal(self.volume_id, self.collection, keys)
            self.node.worker(self.disk_id, merge, _JOURNAL_TIMEOUT_S)

    def _file(self, extension: str, *, may_be_missing: bool) -> int:
        """Bring a file here; what does not come whole leaves nothing, and what is there already stays till then.
        Returns when the source has changed it last, in ns."""
        file: IncomingFile | None = None
        length = changed_at_ns = 0
        try:
            for message in self._messages(extension, may_be_missing=may_be_missing):
                changed_at_ns = changed_at_ns or message.modified_ts_ns
                # A source that does not have the file sends neither content nor time.
                if file is None and (message.file_content or message.modified_ts_ns):
                    file = self._open(extension)
                if file is not None and message.file_content:
                    file.write(message.file_content)
                    length += len(message.file_content)
            if file is not None:
                if length:
                    deletions = file.complete().deletions
                    file = None
                    self._merge(deletions)
                elif not may_be_missing:
                    # DEVIATE: the reference puts an empty shard, too, in the place of one that may be the last copy.
                    raise DiskError(f"source {extension} is 0 bytes")
            return changed_at_ns
        finally:
            if file is not None:
                file.discard()

    def _changed_at_ns(self, extension: str) -> int:
        return max((message.modified_ts_ns for message in self._messages(extension, stop=0)), default=0)

    def _open(self, extension: str) -> IncomingFile:
        in_index = extension == INDEX
        return IncomingFile(
            self.node,
            self.disk_id,
            lambda path: OpenEcFile(self.volume_id, self.collection, extension, in_index, path),
        )

    def _messages(
        self, extension: str, *, may_be_missing: bool = False, stop: int = _WHOLE_FILE
    ) -> Iterator[pb.CopyFileResponse]:
        request = pb.CopyFileRequest(
            volume_id=self.volume_id,
            ext=extension,
            compaction_revision=_ANY_REVISION,
            stop_offset=stop,
            collection=self.collection,
            is_ec_volume=True,
            ignore_source_file_not_found=may_be_missing,
        )
        has_started = False
        try:
            for message in self.peer.stream("CopyFile", request):
                has_started = True
                yield message
                self.throttle.spend(len(message.file_content))
        except PeerError as error:
            if error.code is Code.UNAVAILABLE and not has_started:
                raise VolumedError(
                    f"failed to start copying volume {self.volume_id} {extension} file: {error.text}"
                ) from None
            path = self._path(extension)
            raise VolumedError(f"failed to copy {path} file: receiving {path}: {error.text}") from None

    def _path(self, extension: str) -> str:
        disk: DiskConfig = self.node.config.disks[self.disk_id]
        directory = disk.idx_directory if extension in (INDEX, JOURNAL) else disk.directory
        return f"{directory}/{format_base_name(self.collection, self.volume_id)}{extension}"
