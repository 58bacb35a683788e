"""The real coding process, with files on dying sectors (``sick_files``)."""

from __future__ import annotations

import sys

from tests.probe.fakes import sick_files
from volumed.storage.fileio import FileIO
from workers.coding.child import main

if __name__ == "__main__":
    sick_files.install()
    main(sys.argv[1], FileIO())
