"""What an interrupted vacuum left behind, decided and applied before volumes are loaded (docs/spec/storage.md 7.5).

The commit marker `.cpc` is written when `.cpd` and `.cpx` are complete and durable: with it the renames are finished,
without it they never began.
"""

from __future__ import annotations

import enum
import shutil

from volumed.storage.fileio import FileIO
from volumed.storage.site import VolumePaths

__all__ = ["LEFTOVER_EXTENSIONS", "Recovery", "decide_recovery", "recover_compaction"]

LEFTOVER_EXTENSIONS = (".cpc", ".cpd", ".cpx")


class Recovery(enum.Enum):
    """How to get back to one consistent volume."""

    NOTHING = "nothing"
    ROLL_FORWARD = "roll forward"
    ROLL_BACK = "roll back"


def decide_recovery(*, marker: bool, data: bool, index: bool) -> Recovery:
    """From the presence of `.cpc`, `.cpd`, `.cpx`."""
    if marker:
        return Recovery.ROLL_FORWARD
    return Recovery.ROLL_BACK if data or index else Recovery.NOTHING


def recover_compaction(files: FileIO, paths: VolumePaths) -> Recovery:
    """Apply the decision to one volume that is not mounted; what was done. Raises `OSError`."""
    beside = VolumePaths(paths.data_directory, paths.data_directory, paths.base_name)
    if files.exists(beside.index(".cpx")) or files.exists(beside.index(".idx")):
        # An index beside the data is used although there is a directory for indexes (5.3 step 6).
        paths = beside
    marker, data, index = paths.data(".cpc"), paths.data(".cpd"), paths.index(".cpx")
    recovery = decide_recovery(marker=files.exists(marker), data=files.exists(data), index=files.exists(index))
    if recovery is Recovery.NOTHING:
        return recovery
    if recovery is Recovery.ROLL_FORWARD:
        for source, target in ((data, paths.data(".dat")), (index, paths.index(".idx"))):
            if files.exists(source):
                files.rename(source, target)
        for directory in paths.directories():
            files.sync_directory(directory)
    else:
        files.remove(data)
        files.remove(index)
    for extension in (".ldb", ".rdb"):
        shutil.rmtree(paths.index(extension), ignore_errors=True)
    files.remove(marker)
    for directory in paths.directories():
        files.sync_directory(directory)
    return recovery
