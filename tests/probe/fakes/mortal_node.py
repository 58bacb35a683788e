"""``volumed`` with workers that die when they are told to (``mortal_worker``) and come back at once, however often."""

from __future__ import annotations

import os
import sys

from supervisor import disk_keeper
from supervisor.main import run_node
from supervisor.supervisor import PROGRAMS
from volumed.config.flags import parse_command_line

disk_keeper._CRASH_DELAYS_S = (0.0, 0.0, 0.0)
os._exit(run_node(parse_command_line(sys.argv[1:]), PROGRAMS._replace(worker="tests.probe.fakes.mortal_worker")))
