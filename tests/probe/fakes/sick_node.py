"""``volumed`` on disks with dying sectors (``sick_files``)."""

from __future__ import annotations

import os
import sys

from supervisor.main import run_node
from supervisor.supervisor import Programs
from volumed.config.flags import parse_command_line

PROGRAMS = Programs(*(f"tests.probe.fakes.sick_{name}" for name in Programs._fields))
os._exit(run_node(parse_command_line(sys.argv[1:]), PROGRAMS))
