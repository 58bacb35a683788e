"""The gRPC front process: ``python -m volumed.grpc.front <node.json>``.

Environment: ``VOLUMED_GO_FD`` is read until one byte says that the node is ready to open its ports (end of file:
the supervisor is gone); ``VOLUMED_READY_FD`` gets one byte once the port takes calls.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from volumed.logs import configure_logging
from volumed.processes import die_with_parent, set_title

__all__ = ["main"]

_log = logging.getLogger(__name__)
_STOP_GRACE_S = 5.0


def main() -> int:
    """Serve until SIGTERM; the exit status is 0 after a clean stop, 1 when the port cannot be bound."""
    die_with_parent()
    set_title("volumed: grpc front")
    from volumed.bus.caller import Caller
    from volumed.config.address import join_host_port
    from volumed.config.node import load_node_config
    from volumed.grpc.node import GrpcNode
    from volumed.grpc.server import create_server
    from volumed.nodetable import NodeTable
    from volumed.security.access import AccessView
    from volumed.storage.view import NodeView

    config = load_node_config(sys.argv[1])
    configure_logging("grpc", config.log_verbosity, as_json=config.log_json)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    table = NodeTable(config.node_table_path())
    caller = Caller()
    node = GrpcNode(config, table, caller, NodeView(config, table))
    server = create_server(node, AccessView(table, config.runtime_dir))
    if not os.read(int(os.environ["VOLUMED_GO_FD"]), 1):
        return 0
    address = join_host_port(config.bind_ip, config.grpc_port)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        _log.error("cannot listen on %s: %s", address, error)
        return 1
    server.start()
    _log.info("grpc listening on %s", address)
    os.write(int(os.environ["VOLUMED_READY_FD"]), b"1")
    stopping.wait()
    stopped = server.stop(_STOP_GRACE_S)
    node.end_endless()
    stopped.wait()
    caller.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
