"""The pages below ``/debug/pprof/`` (docs/spec/http.md 6.5). Their content is text of our own."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple
from urllib.parse import parse_qs

from volumed.profiling.sampler import Busy, stack_counts, trace_lines

__all__ = ["Page", "is_profiling_path", "plain_page", "profiling_page"]

_PREFIX = "/debug/pprof"
_TEXT = "text/plain; charset=utf-8"
_SECONDS_MAX = 60.0
_PROFILE_S = 30.0
_TRACE_S = 1.0

_INDEX = b"""<html><head><title>/debug/pprof/</title></head><body>
<p>This process alone; the HTTP fronts answer in turn, each for itself.</p>
<ul>
<li><a href="/debug/pprof/cmdline">cmdline</a>: the command line</li>
<li><a href="/debug/pprof/profile?seconds=5">profile</a>: sampled stacks with counts, for flame graph tools</li>
<li><a href="/debug/pprof/trace?seconds=1">trace</a>: when the stack of a thread changed</li>
<li><a href="/debug/pprof/symbol">symbol</a></li>
</ul></body></html>
"""


class Page(NamedTuple):
    """A complete answer."""

    status: int
    content_type: str
    content: bytes


def plain_page(status: int, text: str) -> Page:
    """One line of text."""
    return Page(status, _TEXT, text.encode() + b"\n")


def is_profiling_path(path: str) -> bool:
    """Whether `profiling_page` answers for it."""
    return path == _PREFIX or path.startswith(_PREFIX + "/")


def profiling_page(path: str, query: str) -> Page:
    """Answer a request. A profile takes as long as asked for, at most a minute."""
    name = path.removeprefix(_PREFIX).removeprefix("/")
    if not name:
        return Page(200, "text/html; charset=utf-8", _INDEX)
    if name == "cmdline":
        return Page(200, _TEXT, "\0".join(sys.orig_argv).encode())
    if name == "symbol":
        return plain_page(200, "num_symbols: 1")
    try:
        if name == "profile":
            return _lines(stack_counts(_seconds(query, _PROFILE_S)))
        if name == "trace":
            return _lines(trace_lines(_seconds(query, _TRACE_S)))
    except Busy:
        return plain_page(503, "another profile is being taken")
    return plain_page(404, "Unknown profile")


def _lines(lines: list[str]) -> Page:
    return Page(200, _TEXT, "\n".join([f"# process {os.getpid()}", *lines, ""]).encode())


def _seconds(query: str, default: float) -> float:
    text = parse_qs(query).get("seconds", [""])[0]
    try:
        seconds = float(text)
    except ValueError:
        return default
    return min(seconds, _SECONDS_MAX) if seconds > 0 else default
