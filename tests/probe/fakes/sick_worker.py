"""The real worker, on a disk with dying sectors (``sick_files``)."""

from __future__ import annotations

import sys

from tests.probe.fakes import sick_files
from workers import __main__ as worker
from workers.coding import process

if __name__ == "__main__":
    sick_files.install()
    process.COMMAND = (sys.executable, "-m", "tests.probe.fakes.sick_coder")
    raise SystemExit(worker.main(sys.argv[1:]))
