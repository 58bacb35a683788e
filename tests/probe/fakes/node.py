"""``volumed`` with its real supervisor and fake children; ``VOLUMED_TEST_FAKES`` names those that are fake."""

from __future__ import annotations

import os
import sys

from supervisor.main import run_node
from supervisor.supervisor import PROGRAMS
from volumed.config.flags import parse_command_line

fakes = {name: f"tests.probe.fakes.{name}" for name in os.environ["VOLUMED_TEST_FAKES"].split(",")}
os._exit(run_node(parse_command_line(sys.argv[1:]), PROGRAMS._replace(**fakes)))
