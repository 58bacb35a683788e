"""From the command line to the effective configuration of the node (docs/spec/http.md 9.2, 9.3)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from volumed.config.address import join_host_port
from volumed.config.directories import state_directory
from volumed.config.disks import ConfigError, disk_configs
from volumed.config.flags import STANDALONE, CommandLine
from volumed.config.hostaddress import detect_host_address
from volumed.config.node import NodeConfig
from volumed.config.volume_toml import read_probe_settings
from volumed.security.grpc_tls import check_grpc_tls
from volumed.security.settings import SecuritySettings
from volumed.security.tls import load_tls

__all__ = ["build_node_config"]

_GRPC_PORT_DISTANCE = 10_000
_PORT_MAX = 65_535
_MIB = 1 << 20
_COMPAT = ("4.48", "4.44")
_FRONTS_MIN = 2
_FRONTS_MAX = 256
_READ_BUFFER_MIB_MAX = 32
_BLOCKS_PER_BUFFER = 8


def build_node_config(
    line: CommandLine, runtime_dir: str, environ: Mapping[str, str], security: SecuritySettings
) -> NodeConfig:
    """Decide everything that is not decided by the master. Raises `ConfigError`."""
    check_grpc_tls(security)
    load_tls(security)  # better a line now than fronts that do not start
    disks = disk_configs(line)
    standalone = line.mode == STANDALONE
    ip = line.text("ip") or _default_ip(standalone and not line.text("ip.bind"))
    port = _port(line, "port")
    public_port = _port(line, "port.public") or port
    state_dir = state_directory(line.text("mapDir"), line.text("dir.idx"), environ)
    return NodeConfig(
        runtime_dir=runtime_dir,
        map_dir=state_dir,
        state_dir=state_dir,
        disks=disks,
        ip=ip,
        bind_ip=line.text("ip.bind") or ip,
        port=port,
        public_port=public_port,
        grpc_port=_port(line, "port.grpc") or _checked_port(port + _GRPC_PORT_DISTANCE),
        public_url=line.text("publicUrl") or join_host_port(ip, public_port),
        node_id=line.text("id").strip() or join_host_port(ip, port),
        data_center=line.text("dataCenter"),
        rack=line.text("rack"),
        masters=() if standalone else _masters(line),
        standalone=standalone,
        compat=_compat(line.text("compat")),
        shows_ui=security.shows_ui,
        http_fronts=_fronts(line.number("fronts")),
        log_verbosity=line.number("v"),
        log_json=line.boolean("log_json"),
        probe=read_probe_settings(line, environ),
        idle_timeout_s=float(max(0, line.number("idleTimeout"))),
        pre_stop_s=float(max(0, line.number("preStopSeconds"))),
        file_size_limit_bytes=line.number("fileSizeLimitMB") * _MIB,
        images_upright=line.boolean("images.fix.orientation"),
        read_mode=line.text("readMode"),
        read_block_bytes=_read_block_bytes(line.number("readBufferSizeMB")),
        upload_limit_bytes=max(0, line.number("concurrentUploadLimitMB")) * _MIB,
        download_limit_bytes=max(0, line.number("concurrentDownloadLimitMB")) * _MIB,
        upload_wait_s=line.seconds("inflightUploadDataTimeout"),
        download_wait_s=line.seconds("inflightDownloadDataTimeout"),
        metrics_ip=line.text("metricsIp") or line.text("ip.bind") or ip,
        metrics_port=_checked_port(max(0, line.number("metricsPort"))),
        debug_port=_port(line, "debug.port") if line.boolean("debug") else 0,
        pprof=line.boolean("pprof"),
        compaction_bytes_per_s=max(0, line.number("compactionMBps")) * _MIB,
        maintenance_bytes_per_s=max(0, line.number("maintenanceMBps")) * _MIB,
        allow_untrusted_endpoints=line.boolean("volume.allowUntrustedRemoteEndpoints"),
    )


def _default_ip(private: bool) -> str:
    """A standalone node is tried out before its access is configured: without `-ip` it serves this host only."""
    return "127.0.0.1" if private else detect_host_address()


def _port(line: CommandLine, flag: str) -> int:
    return _checked_port(line.number(flag))


def _checked_port(port: int) -> int:
    if not 0 <= port <= _PORT_MAX:
        raise ConfigError(f"listen tcp: address {port}: invalid port")
    return port


def _read_block_bytes(buffer_mib: int) -> int:
    """A stream holds a few blocks, and there may be thousands of streams."""
    # DEVIATE: the reference reads whole buffers; of memory that slow clients hold, this is an eighth.
    return min(max(1, buffer_mib), _READ_BUFFER_MIB_MAX) * _MIB // _BLOCKS_PER_BUFFER


def _masters(line: CommandLine) -> tuple[str, ...]:
    masters = tuple(item.strip() for item in (line.text("mserver") or line.text("master")).split(",") if item.strip())
    if not masters:
        raise ConfigError("no master address in -master")
    if any(master.startswith("dnssrv+") for master in masters):
        # DEVIATE: the reference dials that text for ever; only its filer looks up such records.
        raise ConfigError("-master: volume servers do not look up dnssrv+ addresses, name the masters")
    return masters


def _compat(text: str) -> str:
    if text not in _COMPAT:
        raise ConfigError(f"-compat {text} is unknown; known are {' and '.join(_COMPAT)}")
    return text


def _fronts(count: int) -> int:
    if count < 0 or count > _FRONTS_MAX:
        raise ConfigError(f"-fronts {count} is not between 0 and {_FRONTS_MAX}")
    return count or max(_FRONTS_MIN, len(os.sched_getaffinity(0)))
