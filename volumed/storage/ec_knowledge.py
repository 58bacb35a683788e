"""What other disks of the node know to be deleted in an erasure coded volume (docs/spec/erasure-coding.md 3.3, 4.12).

Their files are read, never written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from volumed.erasure.index_merge import missing_deletions
from volumed.storage.ec_files import index_path
from volumed.storage.ec_identity import are_of_one_run
from volumed.storage.ec_journal import read_journals
from volumed.storage.fileio import error_text
from volumed.storage.site import DiskSite, VolumePaths

__all__ = ["deletions_of_others"]

_log = logging.getLogger(__name__)


def deletions_of_others(
    site: DiskSite, paths: VolumePaths, sources: Iterable[VolumePaths], *, indexes: bool
) -> list[int]:
    """Needles in the journals of other disks and, with ``indexes``, those that only their copies of the index mark as
    deleted; ascending. Files that are not known to be of the same encode run do not count: an id may have been used
    again since.

    A disk that cannot be read is logged and left out.
    """
    found: set[int] = set()
    for source in sources:
        try:
            if are_of_one_run(site.files, site.offset_width, paths, source):
                found |= read_journals(site.files, source)
                found.update(_folded(site, paths, source) if indexes else ())
        except OSError as error:
            _log.error("%s: deletions that it alone knows are left out: %s", source.data(""), error_text(error))
    return sorted(found)


def _folded(site: DiskSite, paths: VolumePaths, source: VolumePaths) -> list[int]:
    ours, theirs = index_path(site.files, paths), index_path(site.files, source)
    if ours is None or theirs is None or ours == theirs:
        return []
    own, other = (site.files.open(path, writable=False) for path in (ours, theirs))
    return missing_deletions(site.files, own, other, site.offset_width) or []
