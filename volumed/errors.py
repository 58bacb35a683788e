"""The one tree of domain errors, and the texts that clients see.

Theory of operation
    The second level of the tree says *whose fault* an error is, which decides what the node does about it:

        ClientError   bad input or a state the client asked for; nothing is wrong with the node
        DiskError     this disk or what is stored on it; other disks are unaffected
        NodeError     ours: a bug or a broken invariant
        RetryError    nothing is wrong for good; the same request may succeed a moment later

    An error is a text (exactly what the reference server says), a status code and a class. It crosses the bus
    as the triple of `to_wire` and is mapped to gRPC and HTTP in one place each. The texts are class methods
    here, so that no other module spells them (docs/spec/storage.md, docs/spec/grpc.md).
"""

from __future__ import annotations

import enum
from typing import ClassVar

from volumed.codes import Code

__all__ = [
    "ClientError",
    "Code",
    "CompactionError",
    "CookieMismatch",
    "CorruptNeedle",
    "Corruption",
    "DiskError",
    "DiskUnavailable",
    "FormatError",
    "InvalidBlob",
    "NeedleDeleted",
    "NeedleNotFound",
    "NoFreeSpace",
    "NodeError",
    "ReadOnlyVolume",
    "RetryError",
    "SizeLimitExceeded",
    "StaleGeneration",
    "VolumeBusy",
    "VolumeClosed",
    "VolumeExists",
    "VolumeLoadError",
    "VolumeNotEmpty",
    "VolumeNotFound",
    "VolumeUnavailable",
    "VolumedError",
]


_KINDS: dict[str, type[VolumedError]] = {}


class VolumedError(Exception):
    """Base of every error this project raises on purpose.

    `text` is the exact client-visible text, `code` the gRPC status.
    """

    default_code: ClassVar[Code] = Code.UNKNOWN

    def __init__(self, text: str, code: Code | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.code = self.default_code if code is None else code

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _KINDS[cls.__name__] = cls

    def to_wire(self) -> tuple[str, int, str]:
        """(kind, code, text) for a message between processes."""
        return type(self).__name__, int(self.code), self.text

    @staticmethod
    def from_wire(kind: str, code: int, text: str) -> VolumedError:
        """The error `to_wire` described; an unknown kind gives `VolumedError`, an unknown code UNKNOWN."""
        name, _, detail = kind.partition(".")
        known = Code(code) if code in Code.__members__.values() else Code.UNKNOWN
        return _KINDS.get(name, VolumedError)._rebuild(text, known, detail)

    @classmethod
    def _rebuild(cls, text: str, code: Code, _detail: str) -> VolumedError:
        return cls(text, code)


class ClientError(VolumedError):
    """The client's fault: bad input, or something that does not exist."""


class DiskError(VolumedError):
    """The fault of one disk or of what is stored on it."""


class NodeError(VolumedError):
    """Our own fault."""


class RetryError(VolumedError):
    """Nobody's fault for long: trying again may succeed."""

    default_code = Code.UNAVAILABLE


# Malformed input


class FormatError(ClientError):
    """Text or bytes that do not have the announced form."""

    @classmethod
    def unsupported_version(cls, version: int) -> FormatError:
        return cls(f"volume super block version {version} is not supported")

    @classmethod
    def index_length(cls, length: int) -> FormatError:
        return cls(f"index file's size is {length} bytes, maybe corrupted")


class InvalidBlob(ClientError):
    """A raw record that does not fit what was said about it (docs/spec/storage.md 6.5)."""

    @classmethod
    def negative_size(cls, key: int, size: int) -> InvalidBlob:
        return cls(f"needle {key} has invalid size {size}")

    @classmethod
    def no_header(cls, key: int, length: int) -> InvalidBlob:
        return cls(f"needle {key} blob of {length} bytes is shorter than a needle header")

    @classmethod
    def other_size(cls, key: int, size: int, header_size: int) -> InvalidBlob:
        return cls(f"needle {key} size {size} does not match its blob header size {header_size}")

    @classmethod
    def other_length(cls, key: int, length: int, expected: int, size: int, version: int) -> InvalidBlob:
        return cls(
            f"needle {key} blob of {length} bytes does not match the {expected} bytes size {size} takes in a "
            f"version {version} volume"
        )


# Needles


class NeedleNotFound(ClientError):
    """No such needle, or one whose TTL has passed."""

    default_code = Code.NOT_FOUND

    def __init__(self, text: str = "not found", code: Code | None = None) -> None:
        super().__init__(text, code)


class NeedleDeleted(ClientError):
    """The needle existed and was deleted."""

    def __init__(self, text: str = "already deleted", code: Code | None = None) -> None:
        super().__init__(text, code)


class CookieMismatch(ClientError):
    """The cookie of the request is not the stored one."""

    @classmethod
    def on_write(cls, cookie: int) -> CookieMismatch:
        return cls(f"mismatching cookie {cookie:x}")

    @classmethod
    def on_delete(cls) -> CookieMismatch:
        return cls("File Random Cookie does not match.")


class Corruption(enum.Enum):
    """What is wrong with a stored record."""

    SIZE = "size"
    """The header's size is not the index row's: another record, or none, is at that place."""
    BOUNDS = "bounds"
    """A part of the body runs over its end."""
    CRC = "crc"
    """The data do not match their checksum."""
    EOF = "eof"
    """The file ends inside the record."""


def _hex_of_hex(key: int) -> str:
    # COMPAT: the reference formats the key's hex *text* once more as hex; log readers and tests match on it.
    return f"{key:x}".encode().hex()


class CorruptNeedle(DiskError):
    """A stored record that cannot be trusted; `kind` says why. Texts: docs/spec/storage.md 3.7."""

    def __init__(self, text: str, code: Code | None = None, kind: Corruption = Corruption.BOUNDS) -> None:
        super().__init__(text, code)
        self.kind = kind

    def to_wire(self) -> tuple[str, int, str]:
        return f"{type(self).__name__}.{self.kind.value}", int(self.code), self.text

    @classmethod
    def _rebuild(cls, text: str, code: Code, detail: str) -> CorruptNeedle:
        kinds = {kind.value: kind for kind in Corruption}
        return cls(text, code, kinds.get(detail, Corruption.BOUNDS))

    @classmethod
    def size_mismatch(cls, offset: int, key: int, found: int, expected: int) -> CorruptNeedle:
        text = (
            f"size mismatch: entry not found: offset {offset} found id {_hex_of_hex(key)} size {found}, "
            f"expected size {expected}"
        )
        return cls(text, kind=Corruption.SIZE)

    @classmethod
    def paged_size_mismatch(cls, offset: int, key: int, found: int, expected: int) -> CorruptNeedle:
        text = (
            f"size mismatch for entry at offset {offset}: found id {_hex_of_hex(key)} size {found}, "
            f"expected size {expected}"
        )
        return cls(text, kind=Corruption.SIZE)

    @classmethod
    def out_of_range(cls, part: int) -> CorruptNeedle:
        """`part`: 1 data, 2 name, 3 mime, 4 last modified, 5 TTL, 6 pairs size, 7 pairs."""
        return cls(f"index out of range {part}: needle data corrupted", kind=Corruption.BOUNDS)

    @classmethod
    def meta_size(cls, length: int, data_size: int, size: int, offset: int) -> CorruptNeedle:
        text = f"invalid needle meta size {length}: DataSize={data_size}, size={size}, offset={offset}"
        return cls(text, kind=Corruption.BOUNDS)

    @classmethod
    def crc(cls, key: int, calculated: int, stored: int) -> CorruptNeedle:
        text = (
            f"invalid CRC for needle {key:x} (got {calculated:08x}, want {stored:08x}), "
            "data on disk corrupted: needle data corrupted"
        )
        return cls(text, kind=Corruption.CRC)

    @classmethod
    def paged_crc(cls, calculated: int, stored: int, volume_id: int, needle: str) -> CorruptNeedle:
        text = f"ReadNeedleData checksum {calculated} expected {stored} for Needle: {volume_id},{needle}"
        return cls(text, kind=Corruption.CRC)

    @classmethod
    def eof(cls) -> CorruptNeedle:
        return cls("EOF", kind=Corruption.EOF)


# Volumes


class ReadOnlyVolume(ClientError):
    """The volume takes no writes (or no deletes) now."""

    @classmethod
    def of(cls, volume_id: int) -> ReadOnlyVolume:
        return cls(f"volume {volume_id} is read only")


class VolumeNotFound(ClientError):
    """The volume is not mounted here. The code depends on the operation (docs/spec/grpc.md section 0)."""

    @classmethod
    def of(cls, volume_id: int) -> VolumeNotFound:
        return cls(f"volume {volume_id} not found")

    @classmethod
    def on_server(cls, volume_id: int, address: str) -> VolumeNotFound:
        """For a write or delete; `address` is this server's `<ip>:<port>`."""
        return cls(f"volume {volume_id} not found on {address}")

    @classmethod
    def on_status(cls, volume_id: int) -> VolumeNotFound:
        return cls(f"not found volume id {volume_id}")

    @classmethod
    def on_mount(cls, volume_id: int) -> VolumeNotFound:
        return cls(f"volume {volume_id} not found on disk")

    @classmethod
    def on_delete(cls, volume_id: int) -> VolumeNotFound:
        return cls(f"delete volume {volume_id} not found on disk: volume not found", Code.NOT_FOUND)

    @classmethod
    def on_check(cls, volume_id: int) -> VolumeNotFound:
        return cls._during(volume_id, "check compact")

    @classmethod
    def on_compact(cls, volume_id: int) -> VolumeNotFound:
        return cls._during(volume_id, "compact", f"compact volume {volume_id}: ")

    @classmethod
    def on_commit(cls, volume_id: int) -> VolumeNotFound:
        return cls._during(volume_id, "commit compact", f"commit compact volume {volume_id}: ")

    @classmethod
    def on_cleanup(cls, volume_id: int) -> VolumeNotFound:
        return cls._during(volume_id, "cleaning up", f"cleanup volume {volume_id}: ")

    @classmethod
    def _during(cls, volume_id: int, work: str, prefix: str = "") -> VolumeNotFound:
        text = f"{prefix}volume id {volume_id} is not found during {work}: volume not found"
        return cls(text, Code.NOT_FOUND)


class VolumeExists(ClientError):
    """An id that is to be created is taken."""

    @classmethod
    def of(cls, volume_id: int) -> VolumeExists:
        return cls(f"Volume Id {volume_id} already exists!")


class VolumeNotEmpty(ClientError):
    """A guarded delete met live data."""

    default_code = Code.FAILED_PRECONDITION

    @classmethod
    def of(cls, volume_id: int) -> VolumeNotEmpty:
        return cls(f"DeleteVolume {volume_id}: volume not empty")


class VolumeBusy(RetryError):
    """The volume is being compacted."""

    default_code = Code.UNKNOWN

    @classmethod
    def compacting(cls, volume_id: int) -> VolumeBusy:
        return cls(f"volume {volume_id} is compacting")

    @classmethod
    def arriving(cls, volume_id: int) -> VolumeBusy:
        """It is being copied here."""
        return cls(f"volume {volume_id} is being copied here")


class VolumeClosed(RetryError):
    """The volume was closed between look-up and use."""

    default_code = Code.UNKNOWN

    @classmethod
    def of(cls, volume_id: int) -> VolumeClosed:
        return cls(f"volume {volume_id} is closed")


class VolumeUnavailable(DiskError):
    """The volume could not be restored after a failed flush; `reason` is the marker file's text (6.6)."""

    @classmethod
    def of(cls, volume_id: int, reason: str) -> VolumeUnavailable:
        return cls(f"volume {volume_id} is unavailable: {reason}: volume unavailable")

    @classmethod
    def on_mark_writable(cls, volume_id: int, reason: str) -> VolumeUnavailable:
        return cls(f"volume {volume_id} cannot be marked writable: {cls.of(volume_id, reason).text}")


class VolumeLoadError(DiskError):
    """A volume's files do not form a volume; only this volume is skipped (docs/spec/storage.md 5.3)."""

    @classmethod
    def not_initialized(cls, path: str) -> VolumeLoadError:
        return cls(f"volume {path} not initialized")

    @classmethod
    def unreadable(cls, path: str) -> VolumeLoadError:
        return cls(f"cannot read Volume Data file {path}")

    @classmethod
    def unsupported_version(cls, volume_id: int, version: int) -> VolumeLoadError:
        return cls(f"Unsupported volume {volume_id} version {version}")

    @classmethod
    def bad_replication(cls, volume_id: int, text: str, reason: str) -> VolumeLoadError:
        return cls(f"Error parse volume {volume_id} replication {text} : {reason}")

    @classmethod
    def after_copy(cls, volume_id: int, reason: str) -> VolumeLoadError:
        return cls(f"failed to mount or validate volume {volume_id}: {reason}")

    @classmethod
    def index_length(cls, path: str, length: int) -> VolumeLoadError:
        return cls(f"unexpected file {path} size: {length}")

    @classmethod
    def offset_width(cls, path: str, width: int) -> VolumeLoadError:
        """`width` is this server's; the volume was written with the other one."""
        build = "without" if width == 5 else "with"
        text = f"BytesOffset mismatch in volume info file {path}, try use binary version {build} large_disk"
        return cls(text)


class CompactionError(DiskError):
    """A compaction or its commit had to stop (docs/spec/storage.md 7)."""

    @classmethod
    def sealed(cls, path: str) -> CompactionError:
        """The data are in a remote tier, or on their way there."""
        return cls(f"open {path}: no such file or directory")

    @classmethod
    def swap_aborted(cls, volume_id: int) -> CompactionError:
        return cls(f"volume {volume_id} compact swap aborted: missing .cpd/.cpx")

    @classmethod
    def stopping(cls, volume_id: int) -> CompactionError:
        return cls(f"volume id {volume_id} skips compact because volume is stopping")

    @classmethod
    def other_revision(cls, found: int, expected: int) -> CompactionError:
        text = f"current old dat file's compact revision {found} is not the expected one {expected}"
        return cls(text)

    @classmethod
    def unexpected_size(cls, volume_id: int, found: int, expected: int) -> CompactionError:
        return cls(
            f"volume {volume_id} unexpected new data size: {found} does not match expected live content size "
            f"{expected} from the pre-compaction snapshot"
        )

    @classmethod
    def committing(cls, volume_id: int) -> CompactionError:
        return cls(
            f"cleanup volume {volume_id}: volume {volume_id}: refusing cleanup while commit marker present"
        )

    @classmethod
    def interrupted(cls) -> CompactionError:
        return cls("interrupted")


# Limits


class SizeLimitExceeded(ClientError):
    """Something is larger than it may be."""

    @classmethod
    def volume_end(cls, end: int, limit: int) -> SizeLimitExceeded:
        """An append at `end` would leave the range that offsets can address."""
        return cls(f"Volume Size {end} Exceeded {limit}")

    @classmethod
    def volume_content(cls, limit: int, content_bytes: int) -> SizeLimitExceeded:
        return cls(f"volume size limit {limit} exceeded! current size is {content_bytes}")

    @classmethod
    def file(cls, limit: int) -> SizeLimitExceeded:
        """An upload over the configured file size limit, in bytes."""
        return cls(f"file over the limited {limit} bytes")


class NoFreeSpace(DiskError):
    """The disk has no room for what was asked."""

    @classmethod
    def for_volume(cls) -> NoFreeSpace:
        return cls("No more free space left")

    @classmethod
    def for_copy(cls, disk_type: str) -> NoFreeSpace:
        return cls(f"no space left for disk type {disk_type}")

    @classmethod
    def for_upload(cls) -> NoFreeSpace:
        return cls("no free space left for a large upload", Code.RESOURCE_EXHAUSTED)

    @classmethod
    def for_compaction(
        cls, volume_id: int, need: int, volume: int, index: int, available: int
    ) -> NoFreeSpace:
        """All but the id in bytes."""
        text = (
            f"compact volume {volume_id}: insufficient free space for compaction: "
            f"need {need} bytes (volume: {volume}, index: {index}), but only {available} bytes available: "
            "insufficient free space"
        )
        return cls(text, Code.RESOURCE_EXHAUSTED)


# Try again


class StaleGeneration(RetryError):
    """The volume's files were replaced (vacuum, delete, unmount) while they were being used."""


class DiskUnavailable(RetryError):
    """The disk does not serve now."""
