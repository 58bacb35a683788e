"""The metrics that the supervisor states from its memory (docs/spec/http.md 10). Pure; nothing touches a disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from supervisor.node import Disk, Node
from volumed import REFERENCE_VERSION, SIZE_LIMITS
from volumed.config.node import NodeConfig
from volumed.metrics import families
from volumed.metrics.stated import Stated
from volumed.nodetable import DiskState, NodeTable

__all__ = ["NodeView", "state_samples"]

_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
_BROKEN = frozenset({DiskState.STUCK, DiskState.FAILED})


class NodeView(NamedTuple):
    """What the samples are made of. ``disconnections`` counts by the master's address."""

    config: NodeConfig
    node: Node
    table: NodeTable
    started_at_s: float
    disconnections: Mapping[str, int]


def state_samples(view: NodeView) -> list[Stated]:
    """All of them, as of now. To be called on the supervisor's loop."""
    return [*_node_samples(view), *_disk_samples(view.node), *_volume_samples(view.node)]


def _node_samples(view: NodeView) -> Iterator[Stated]:
    config, table = view.config, view.table
    build = (REFERENCE_VERSION, "volumed", SIZE_LIMITS[config.offset_width], "linux", _ARCHITECTURE)
    yield Stated(families.BUILD_INFO, build, 1)
    yield Stated(families.START_TIME, (), int(view.started_at_s))
    yield Stated(families.UPLOAD_LIMIT, (), config.upload_limit_bytes)
    yield Stated(families.DOWNLOAD_LIMIT, (), config.download_limit_bytes)
    yield Stated(families.UPLOADS_IN_FLIGHT, (), table.upload_bytes())
    yield Stated(families.DOWNLOADS_IN_FLIGHT, (), table.download_bytes())
    for address, count in view.disconnections.items():
        yield Stated(families.MASTER_DISCONNECTIONS, (address,), count)


def _disk_samples(node: Node) -> Iterator[Stated]:
    counted = (disk.slots for disk in node.disks if disk.behaviour.counted)
    yield Stated(families.MAX_VOLUMES, (), sum(counted))
    for disk in node.disks:
        name = disk.config.directory
        free_bytes = disk.free_bytes + disk.reserved_bytes
        sizes = {
            "all": disk.total_bytes,
            "used": disk.total_bytes - free_bytes,
            "free": free_bytes,
            "avail": disk.free_bytes,
        }
        for kind, value in sizes.items():
            yield Stated(families.RESOURCE, (name, kind), value)
        yield Stated(families.DISK_ERROR, (name, "error"), bool(disk.problem) or disk.state in _BROKEN)
        for state in DiskState:
            yield Stated(families.DISK_STATE, (name, state.name.lower()), disk.state is state)
        for task in disk.tasks:
            labels = name, task.what, str(task.volume_id)
            yield Stated(families.TASKS, (*labels, "done"), task.done_bytes)
            yield Stated(families.TASKS, (*labels, "all"), task.total_bytes)
        yield Stated(families.WORKER_RESTARTS, (name,), max(0, disk.epoch - 1))


def _volume_samples(node: Node) -> Iterator[Stated]:
    volumes: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    read_only: Counter[tuple[str, str]] = Counter()
    for disk in node.disks:
        for volume in disk.volumes.values():
            report = volume.report
            volumes[report.collection, "volume"] += 1
            sizes[report.collection, "normal"] += report.size
            sizes[report.collection, "deleted_bytes"] += report.deleted_byte_count
            for reason, holds in _reasons(disk, read_only_now=report.read_only, can_delete=report.read_only_can_delete):
                read_only[report.collection, reason] += holds
        for encoded in disk.ec_volumes.values():
            volumes[encoded.collection, "ec_shards"] += len(encoded.shards)
            sizes[encoded.collection, "ec"] += sum(encoded.shards.values())
    for family, values in (
        (families.VOLUMES, volumes),
        (families.DISK_SIZE, sizes),
        (families.READ_ONLY_VOLUMES, read_only),
    ):
        for labels, value in values.items():
            yield Stated(family, labels, value)


def _reasons(disk: Disk, *, read_only_now: bool, can_delete: bool) -> Iterator[tuple[str, bool]]:
    """Why a volume takes no writes. One marked read-only on a disk without space counts as the latter."""
    low = disk.space_low
    yield "IsReadOnly", read_only_now
    yield "noWriteOrDelete", read_only_now and not can_delete and not low
    yield "noWriteCanDelete", can_delete
    yield "isDiskSpaceLow", low
