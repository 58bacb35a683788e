"""Every command-line flag of the node, once (docs/spec/http.md 9.2). Parser, help and documentation read this."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FLAGS", "GLOBAL", "NODE", "Flag"]

GLOBAL = "global"
"""Scope of flags before the ``volume`` word."""
NODE = "node"
"""Scope of flags of the node itself."""


class Flag(NamedTuple):
    """One flag. ``default`` is the typed default; ``kind`` a key of `flagtypes.FLAG_TYPES`."""

    name: str
    kind: str
    default: object
    help: str
    scope: str = NODE
    effective: bool = True
    """False while the flag is accepted but changes nothing in this build."""


_INERT = False

FLAGS: tuple[Flag, ...] = (
    Flag("alsologtostderr", "bool", True, "log to standard error as well as files", GLOBAL),
    Flag("config_dir", "string", "", "directory with toml configuration files", GLOBAL),
    Flag("log_backtrace_at", "string", "", "when logging hits line file:N, emit a stack trace", GLOBAL, _INERT),
    Flag("log_compress", "bool", False, "gzip-compress rotated log files", GLOBAL),
    Flag("log_json", "bool", False, "output logs in JSON format", GLOBAL),
    Flag("log_max_files", "int", 5, "maximum number of log files to keep", GLOBAL),
    Flag("log_max_size_mb", "uint", 1800, "size in megabytes at which a log file is rotated", GLOBAL),
    Flag("log_rotate_hours", "int", 168, "rotate log files after this many hours", GLOBAL),
    Flag("logdir", "string", "", "if not empty, write log files in this directory", GLOBAL),
    Flag("logtostderr", "bool", False, "log to standard error instead of files", GLOBAL),
    Flag("stderrthreshold", "severity", 2, "logs at or above this severity go to standard error", GLOBAL),
    Flag("v", "level", 0, "log level 0..4", GLOBAL),
    Flag("vmodule", "string", "", "comma-separated list of pattern=N log levels", GLOBAL, _INERT),
    Flag("compactionMBps", "int", 0, "limit of background compaction or copying in MB/s, 0 = none"),
    Flag("compat", "string", "4.48", "behaviour profile, 4.48 or 4.44"),
    Flag("concurrentDownloadLimitMB", "int", 0, "limit of all downloads in flight in MiB, 0 = none"),
    Flag("concurrentUploadLimitMB", "int", 0, "limit of all uploads in flight in MiB, 0 = none"),
    Flag("cpuprofile", "string", "", "cpu profile output file"),
    Flag("dataCenter", "string", "", "name of the data center this node is in"),
    Flag("debug", "bool", False, "serve profiling data on the port of -debug.port"),
    Flag("debug.port", "int", 6060, "port of the profiling listener"),
    Flag("dir", "string", "", "data directories, dir[,dir]...; empty = the temporary directory"),
    Flag("dir.idx", "string", "", "directory of index files; empty = beside the data"),
    Flag("disk", "string", "", "disk types, hdd, ssd or any tag; one for all or one per directory"),
    Flag("fileSizeLimitMB", "int", 256, "largest object accepted, in MiB"),
    Flag("fronts", "int", 0, "number of HTTP front processes; 0 = one per core, at least 2"),
    Flag("hasSlowRead", "bool", True, "slow readers of large objects block nobody (always so here)"),
    Flag("id", "string", "", "id of this node; empty = ip:port"),
    Flag("idleTimeout", "int", 30, "seconds after which an idle connection is closed, 0 = never"),
    Flag("images.fix.orientation", "bool", False, "turn JPEG images upright when uploaded"),
    Flag("index", "string", "memory", "kind of needle map (one kind here: LMDB)", NODE, _INERT),
    Flag("index.leveldbTimeout", "int64", 0, "hours until an unused index is unloaded", NODE, _INERT),
    Flag("inflightDownloadDataTimeout", "duration", 60.0, "longest wait of a download for -concurrentDownloadLimitMB"),
    Flag("inflightUploadDataTimeout", "duration", 60.0, "longest wait of an upload for -concurrentUploadLimitMB"),
    Flag("ip", "string", "", "own address told to the cluster; empty = first address of this host"),
    Flag("ip.bind", "string", "", "address to listen on; empty = -ip"),
    Flag("maintenanceMBps", "int", 0, "limit of replication and balancing in MB/s, 0 = none"),
    Flag("mapDir", "string", "", "directory of needle maps; empty = -dir.idx, else the state directory"),
    Flag("master", "string", "localhost:9333", "comma-separated master addresses"),
    Flag("max", "string", "8", "volumes per directory, count[,count]...; 0 = from the free space"),
    Flag("memprofile", "string", "", "memory profile output file"),
    Flag("metricsIp", "string", "", "address of the metrics listener"),
    Flag("metricsPort", "int", 0, "port of the metrics listener, 0 = none"),
    Flag("minFreeSpace", "string", "", "free space a disk must keep to take writes: percent or bytes like 10GiB"),
    Flag("minFreeSpacePercent", "string", "1", "the same in percent, used when -minFreeSpace is empty"),
    Flag("mserver", "string", "", "old name of -master"),
    Flag("options", "string", "", "file of flags, each line name=value"),
    Flag("port", "int", 8080, "HTTP port"),
    Flag("port.grpc", "int", 0, "gRPC port; 0 = port + 10000"),
    Flag("port.public", "int", 0, "HTTP port for reading only; 0 = same as -port"),
    Flag("pprof", "bool", False, "serve profiling pages on the HTTP port"),
    Flag("preStopSeconds", "int", 10, "seconds between leaving the cluster and stopping"),
    Flag("publicUrl", "string", "", "address for clients; empty = ip:port.public"),
    Flag("rack", "string", "", "name of the rack this node is in"),
    Flag("readBufferSizeMB", "int", 4, "memory of a streamed read in MiB, at most 32; it is read in eighths"),
    Flag("readMode", "string", "proxy", "volumes of other nodes: local (404), proxy or redirect"),
    Flag("securityFile", "string", "", "this security.toml and no other"),
    Flag("tags", "string", "", "tags of directories: groups by ',', tags in a group by ':'"),
    Flag("volume.allowUntrustedRemoteEndpoints", "bool", False, "allow loopback and link-local sources"),
    Flag("whiteList", "string", "", "comma-separated addresses that may write; empty = all"),
)
