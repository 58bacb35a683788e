"""A file of an erasure coded volume that has come from another server takes its place (docs/spec/erasure-coding.md 5.4,
5.11)."""

from __future__ import annotations

from volumed.erasure.index_merge import missing_deletions
from volumed.erasure.names import INDEX
from volumed.errors import DiskError
from volumed.storage.ec_files import index_path
from volumed.storage.received_file import ReceivedFile
from volumed.storage.site import DiskSite, VolumePaths

__all__ = ["settle_index"]


def settle_index(site: DiskSite, received: ReceivedFile, paths: VolumePaths, *, is_mounted: bool) -> list[int]:
    """Put an `.ecx` in its place, or keep the one that is there when it is a copy of the same index: then return the
    needles that are deleted only in the new one. Raises `OSError`, `DiskError`."""
    # DEVIATE: the reference writes over the file, also while it is mounted, and forgets the deletions in it.
    known = index_path(site.files, paths)
    if known is not None and site.files.look(known).size:
        ours = site.files.open(known, writable=False)
        missing = missing_deletions(site.files, ours, received.file, site.offset_width)
        if missing is not None:
            received.discard()
            return missing
        if is_mounted:
            raise DiskError(f"{known} is mounted; the {INDEX} that has come is of another encode run")
    received.complete()
    return []
