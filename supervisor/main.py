"""The supervising process: from the command line to the exit status."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial

from supervisor.log_pump import log_files
from supervisor.notify import Notifier
from supervisor.profiles import profiled
from supervisor.runtime_dir import RuntimeDir
from supervisor.security import SecurityKeeper
from supervisor.sockets import NodeSockets, PortUnavailable
from supervisor.supervisor import EXIT_FATAL, PROGRAMS, Programs, Supervisor
from volumed.config.build import build_node_config
from volumed.config.disks import ConfigError
from volumed.config.flags import CommandLine
from volumed.errors import VolumedError
from volumed.logs import configure_logging
from volumed.open_files import allow_all_open_files
from volumed.security.settings import read_security

__all__ = ["run_node"]

_log = logging.getLogger(__name__)


def run_node(line: CommandLine, programs: Programs = PROGRAMS) -> int:
    """Run the node until it is stopped. Whatever it cannot start with ends it with status 255 and one line."""
    allow_all_open_files()
    configure_logging("supervisor", line.number("v"), as_json=line.boolean("log_json"))
    try:
        with log_files(line):
            return _run(line, programs)
    except ConfigError as error:
        return _refuse(error)


def _run(line: CommandLine, programs: Programs) -> int:
    runtime_dir = RuntimeDir(os.environ)
    try:
        read = partial(read_security, line, os.environ)
        settings = read()
        config = build_node_config(line, runtime_dir.path, os.environ, settings)
        security = SecurityKeeper(settings, read, runtime_dir.path)
        for name in line.ineffective():
            _log.warning("-%s has no effect in this build", name)
        with profiled(*_profiles(line)):
            return Supervisor(config, security, NodeSockets(config), Notifier(), programs).run()
    except (ConfigError, PortUnavailable, VolumedError) as error:
        return _refuse(error)
    finally:
        runtime_dir.remove()


def _refuse(error: Exception) -> int:
    sys.stderr.write(f"{error}\n")
    return EXIT_FATAL


def _profiles(line: CommandLine) -> tuple[str, str]:
    """Where to write profiles at the stop; the pages of ``-pprof`` replace them."""
    return ("", "") if line.boolean("pprof") else (line.text("cpuprofile"), line.text("memprofile"))
