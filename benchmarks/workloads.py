"""The loads that are compared, and what the project wants of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.bulk import get_objects, put_objects
from benchmarks.load import Load
from benchmarks.servers import Target
from benchmarks.weedbench import weed_read, weed_write
from benchmarks.wrk import run_wrk

__all__ = ["WORKLOADS", "Workload"]

KIB = 1 << 10
MIB = 1 << 20

Run = Callable[[int], Load]
"""Puts the load on a server for about so many seconds."""


class Workload(NamedTuple):
    """One load. The goals are ratios volumed/weed."""

    name: str
    prepare: Callable[[Target], Run]
    """Stores what the load needs on a fresh server and returns the load."""
    cpu_ratio_max: float | None
    throughput_ratio_min: float


def _get(connections: int, body_bytes: int, objects: int) -> Callable[[Target], Run]:
    def prepare(target: Target) -> Run:
        first = target.fresh_keys()
        put_objects(target, connections=4, first_key=first, count=objects, body_bytes=body_bytes)
        return lambda seconds: run_wrk(
            target, "get", connections=connections, seconds=seconds, first_key=first, count=objects
        )

    return prepare


def _write(mode: str, connections: int, body_bytes: int) -> Callable[[Target], Run]:
    def prepare(target: Target) -> Run:
        return lambda seconds: run_wrk(
            target, mode, connections=connections, seconds=seconds, first_key=target.fresh_keys(), body_bytes=body_bytes
        )

    return prepare


def _bulk_get(connections: int, body_bytes: int, objects: int) -> Callable[[Target], Run]:
    def prepare(target: Target) -> Run:
        first = target.fresh_keys()
        put_objects(target, connections=connections, first_key=first, count=objects, body_bytes=body_bytes)
        return lambda seconds: get_objects(
            target, connections=connections, seconds=seconds, first_key=first, count=objects
        )

    return prepare


def _bulk_put(connections: int, body_bytes: int, objects_per_s: int) -> Callable[[Target], Run]:
    def prepare(target: Target) -> Run:
        return lambda seconds: put_objects(
            target, connections=connections, first_key=target.fresh_keys(),
            count=seconds * objects_per_s, body_bytes=body_bytes,
        )  # fmt: skip

    return prepare


def _benchmark_write(objects_per_s: int) -> Callable[[Target], Run]:
    def prepare(target: Target) -> Run:
        return lambda seconds: weed_write(target, seconds * objects_per_s)

    return prepare


def _benchmark_read(objects: int, reads_per_s: int) -> Callable[[Target], Run]:
    def prepare(target: Target) -> Run:
        weed_write(target, objects)
        return lambda seconds: weed_read(target, seconds * reads_per_s)

    return prepare


WORKLOADS = (
    Workload("GET 1 KB, c=16", _get(16, KIB, 10_000), 0.65, 1.2),
    Workload("GET 1 KB, c=64", _get(64, KIB, 10_000), 0.65, 1.2),
    Workload("GET 64 KB, c=16", _get(16, 64 * KIB, 1_000), 0.6, 1.2),
    Workload("GET 4 MB, c=4", _bulk_get(4, 4 * MIB, 32), 0.8, 1.1),
    Workload("PUT 1 KB raw, c=16", _write("put", 16, KIB), 1.0, 1.0),
    Workload("PUT 1 KB raw, c=64", _write("put", 64, KIB), 0.75, 1.0),
    Workload("POST 1 KB form, c=16", _write("form", 16, KIB), 1.0, 1.0),
    Workload("PUT 4 MB, c=4", _bulk_put(4, 4 * MIB, 50), 0.85, 1.2),
    Workload("weed benchmark, write", _benchmark_write(5_000), None, 1.0),
    Workload("weed benchmark, read", _benchmark_read(20_000, 20_000), None, 1.0),
)
"""In the order of the table. Goals: design targets on two cores, load generator included."""
