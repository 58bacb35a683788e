"""The ``volumed`` command."""

from __future__ import annotations

import os
import sys

from volumed.config.flags import FlagError, parse_command_line, usage

__all__ = ["main"]

_EXIT_USAGE = 2


def main() -> None:
    """Run the node with the flags of the command line; never returns.

    The process ends without waiting for threads: one that hangs on a dead disk or a silent master must not keep a
    stopped node alive.
    """
    try:
        line = parse_command_line(sys.argv[1:])
    except FlagError as error:
        sys.stderr.write(f"{error}\n{usage()}" if str(error) else usage())
        sys.exit(_EXIT_USAGE)
    from supervisor.main import run_node

    status = run_node(line)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
