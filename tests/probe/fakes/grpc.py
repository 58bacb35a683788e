"""A gRPC front that serves nothing: takes the go byte, says it is ready, waits for its end."""

from __future__ import annotations

import os
import signal

from volumed.processes import die_with_parent

die_with_parent()
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
if os.read(int(os.environ["VOLUMED_GO_FD"]), 1):
    os.write(int(os.environ["VOLUMED_READY_FD"]), b"1")
    while True:
        signal.pause()
