"""``volumed`` with its real supervisor and fake children."""

from __future__ import annotations

import os
import sys

from supervisor.main import run_node
from supervisor.supervisor import Programs
from volumed.config.flags import parse_command_line

PROGRAMS = Programs("tests.probe.fakes.worker", "tests.probe.fakes.http", "tests.probe.fakes.grpc")

os._exit(run_node(parse_command_line(sys.argv[1:]), PROGRAMS))
