"""The real coding process, except that it kills its worker, and so itself, at the steps at which that is to die."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.probe.fakes.fate import Fate
from tests.probe.fakes.mortal_files import MortalFiles
from workers.coding.child import main

if __name__ == "__main__":
    MortalFiles.fate = Fate(Path(os.environ["VOLUMED_TEST_FATE"]), os.getppid())
    main(sys.argv[1], MortalFiles())
