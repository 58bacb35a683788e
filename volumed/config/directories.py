"""Where the node keeps what is not on a data disk: needle maps and its own state."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["state_directory"]


def state_directory(map_flag: str, index_flag: str, environ: Mapping[str, str]) -> str:
    """Root of the needle maps and of node state: ``-mapDir``, else ``-dir.idx``, else what systemd gave, else the
    user's state directory. Never a data directory: a map on a dying disk would take its readers along."""
    chosen = map_flag or index_flag
    if not chosen:
        # systemd lists several directories separated by ':'
        chosen = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if not chosen:
        base = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
        chosen = os.path.join(base, "volumed")
    return os.path.abspath(os.path.expanduser(chosen))
