"""The gRPC front process: ``python -m volumed.grpc.front <node.json>``.

Environment: ``VOLUMED_GO_FD`` is read until one byte says that the node is ready to open its ports (end of file:
the supervisor is gone); ``VOLUMED_READY_FD`` gets one byte once the port takes calls.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys

from volumed.config.address import join_host_port
from volumed.config.node import NodeConfig, load_node_config
from volumed.logs import configure_logging
from volumed.nodetable import NodeTable
from volumed.processes import die_with_parent, set_title
from volumed.security.access import AccessView
from volumed.security.grpc_tls import FollowedSecrets, grpc_environment, grpc_server_secrets
from volumed.security.settings import SecuritySettings, load_security

__all__ = ["main"]

_log = logging.getLogger(__name__)
_STOP_GRACE_S = 5.0


def main() -> int:
    """Serve until SIGTERM; the exit status is 0 after a clean stop, 1 when the port cannot be bound."""
    die_with_parent()
    set_title("volumed: grpc front")
    config = load_node_config(sys.argv[1])
    configure_logging("grpc", config.log_verbosity, as_json=config.log_json)
    stop_fd = _stop_signals()
    # A line for every failed handshake would let strangers fill the log.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    security = load_security(config.runtime_dir)
    secrets = grpc_server_secrets(security.grpc)
    if secrets is not None:
        os.environ.update(grpc_environment(security))
        if security.tls.max_version == "TLS 1.2":
            _log.warning("tls.max_version does not hold for gRPC, which speaks TLS 1.3, too")
    return _serve(config, security, secrets, stop_fd)


def _stop_signals() -> int:
    """A descriptor that is readable once SIGTERM or SIGINT has come, to whichever thread. Handlers do nothing: they run
    in the middle of the main thread, which may just hold what they would need."""
    read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write_fd)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return read_fd


def _serve(config: NodeConfig, security: SecuritySettings, secrets: FollowedSecrets | None, stop_fd: int) -> int:
    # The library reads its environment when it is imported.
    from volumed.bus.caller import Caller
    from volumed.grpc.channels import Channels
    from volumed.grpc.credentials import CommonNames, add_port
    from volumed.grpc.node import GrpcNode
    from volumed.grpc.server import create_server
    from volumed.storage.view import NodeView

    table = NodeTable(config.node_table_path())
    caller = Caller()
    node = GrpcNode(config, table, caller, NodeView(config, table), Channels(security.grpc))
    server = create_server(node, AccessView(table, config.runtime_dir), CommonNames.of(security.grpc))
    go_fd = int(os.environ["VOLUMED_GO_FD"])
    ready, _, _ = select.select((go_fd, stop_fd), (), ())
    if stop_fd in ready or not os.read(go_fd, 1):
        return 0
    address = join_host_port(config.bind_ip, config.grpc_port)
    try:
        add_port(server, address, secrets)
    except RuntimeError as error:
        _log.error("cannot listen on %s: %s", address, error)
        return 1
    server.start()
    _log.info("grpc listening on %s%s", address, " with TLS" if secrets else "")
    os.write(int(os.environ["VOLUMED_READY_FD"]), b"1")
    select.select((stop_fd,), (), ())
    stopped = server.stop(_STOP_GRACE_S)
    node.end_endless()
    stopped.wait()
    caller.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
