"""The process of one disk: ``python -m workers <node.json> <disk id> <epoch>``.

Ends with 0 after SIGTERM and with ``EXIT_DISK_FAILED`` when the disk cannot be opened, having told the supervisor why.
Any other end is a crash; what was acknowledged is on the disk, and the next worker starts from there.
"""

from __future__ import annotations

import logging
import signal
import sys

from volumed.logs import configure_logging
from volumed.processes import die_with_parent, set_title, use_batch_scheduling

__all__ = ["EXIT_DISK_FAILED", "main"]

EXIT_DISK_FAILED = 3

_log = logging.getLogger("workers")


def main(arguments: list[str]) -> int:
    """Serve the disk; the exit status."""
    die_with_parent()
    use_batch_scheduling()
    path, disk_id, epoch = arguments[0], int(arguments[1]), int(arguments[2])
    from volumed.bus.events import DiskFailed
    from volumed.config.node import load_node_config
    from volumed.errors import DiskError
    from volumed.metrics.families import Owner
    from volumed.metrics.page import MetricsPage
    from volumed.metrics.recorder import Recorder
    from volumed.storage.disk import Disk
    from workers.io_errors import CountingFiles
    from workers.loop import DiskLoop
    from workers.volumes import VolumeHost

    config = load_node_config(path)
    disk_config = config.disks[disk_id]
    configure_logging("worker", config.log_verbosity, disk_id, as_json=config.log_json)
    set_title(f"volumed: disk {disk_id} {disk_config.directory}")
    loop = DiskLoop(config, disk_id, epoch)
    recorder = Recorder(MetricsPage(config.metrics_path(f"disk-{disk_id}")), Owner.WORKER)
    # A terminal sends SIGINT to the whole group; the supervisor decides when a disk stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: loop.stop())
    try:
        disk = Disk.open(disk_config, config, CountingFiles(recorder))
    except DiskError as error:
        _log.error("cannot open %s: %s", disk_config.directory, error.text)
        loop.publish_last(DiskFailed(disk_id, epoch, error.text))
        loop.close()
        return EXIT_DISK_FAILED
    host = VolumeHost(disk, config, epoch, loop, recorder)
    loop.serve(host)
    host.close()
    loop.close()
    _log.info("stopped")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
