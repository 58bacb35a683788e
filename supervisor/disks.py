"""Disk states: what each one means, and how events change it.

Theory of operation
    A disk is seen through its worker. The worker says when it is ready or cannot open its disk, answers a ping every
    second on its loop thread, and ends. `TRANSITIONS` turns these facts into a state, `BEHAVIOUR` says what the state
    does to heartbeat, fronts and health; nothing else in the node decides that.

    A worker that stays silent is not killed: on a frozen filesystem it could not be, and a second owner of a disk
    must never start. It becomes STUCK, its volumes leave the heartbeat, and the first answer brings it back.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from volumed.nodetable import DISK_STATES_THAT_SERVE, DiskState

__all__ = [
    "BEHAVIOUR",
    "OPENING_LIMIT_S",
    "PING_INTERVAL_S",
    "SLOW_AFTER_S",
    "STUCK_AFTER_S",
    "TRANSITIONS",
    "Behaviour",
    "DiskEvent",
    "DiskWatch",
    "transition",
]

PING_INTERVAL_S = 1.0
SLOW_AFTER_S = 1.5
STUCK_AFTER_S = 5.0
"""Silence after a ping. Together with the ping interval a hung disk leaves the heartbeat within 6 s."""
OPENING_LIMIT_S = 10.0
"""A disk that takes longer to open counts as stuck and goes on opening; the node does not wait for it."""


class DiskEvent(enum.Enum):
    """What can happen to a disk."""

    SPAWNED = "a worker was started"
    READY = "the worker has loaded all volumes, or, having done so before, answered every ping"
    DEGRADED = "as READY, but the worker's probes find the disk slow or failing (``workers.probe``)"
    FAILED = "the worker cannot open the disk"
    LATE = f"a ping has been unanswered for {SLOW_AFTER_S} s"
    SILENT = f"a ping has been unanswered for {STUCK_AFTER_S} s"
    OVERDUE = f"the worker has been opening the disk for {OPENING_LIMIT_S} s"
    EXITED = "the worker process ended"
    DRAIN = "an operator takes the disk out of service"


class Behaviour(NamedTuple):
    """What a state does."""

    serves: bool
    """Fronts read and write; the node is healthy while one disk serves."""
    reported: bool
    """Its volumes are in the heartbeat."""
    counted: bool
    """Its slots are in ``max_volume_counts``, and new volumes may be placed on it."""
    settled: bool
    """The start of the node need not wait for it any longer."""


_S = DiskState
_E = DiskEvent

BEHAVIOUR: dict[DiskState, Behaviour] = {
    _S.ABSENT: Behaviour(False, False, False, False),  # no worker runs
    _S.OPENING: Behaviour(False, True, True, False),  # a worker loads it; volumes of a predecessor stay announced
    _S.OK: Behaviour(True, True, True, True),
    _S.SLOW: Behaviour(True, True, True, True),  # its worker answers late, or finds it degraded
    _S.STUCK: Behaviour(False, False, False, True),  # its worker hangs; back as soon as it answers
    _S.FAILED: Behaviour(False, False, False, True),  # cannot be opened, also while a worker tries again
    _S.DRAINING: Behaviour(True, True, False, True),
}

TRANSITIONS: dict[tuple[DiskState, DiskEvent], DiskState] = {
    (_S.ABSENT, _E.SPAWNED): _S.OPENING,
    (_S.FAILED, _E.READY): _S.OK,
    (_S.FAILED, _E.DEGRADED): _S.SLOW,
    (_S.OPENING, _E.READY): _S.OK,
    (_S.OPENING, _E.DEGRADED): _S.SLOW,
    (_S.OPENING, _E.FAILED): _S.FAILED,
    (_S.OPENING, _E.OVERDUE): _S.STUCK,
    (_S.OPENING, _E.EXITED): _S.FAILED,
    (_S.OK, _E.LATE): _S.SLOW,
    (_S.OK, _E.DEGRADED): _S.SLOW,
    (_S.OK, _E.SILENT): _S.STUCK,
    (_S.OK, _E.FAILED): _S.FAILED,
    (_S.OK, _E.EXITED): _S.ABSENT,
    (_S.OK, _E.DRAIN): _S.DRAINING,
    (_S.SLOW, _E.READY): _S.OK,
    (_S.SLOW, _E.SILENT): _S.STUCK,
    (_S.SLOW, _E.FAILED): _S.FAILED,
    (_S.SLOW, _E.EXITED): _S.ABSENT,
    (_S.SLOW, _E.DRAIN): _S.DRAINING,
    (_S.STUCK, _E.READY): _S.OK,
    (_S.STUCK, _E.DEGRADED): _S.SLOW,
    (_S.STUCK, _E.FAILED): _S.FAILED,
    (_S.STUCK, _E.EXITED): _S.ABSENT,
    (_S.DRAINING, _E.SILENT): _S.STUCK,
    (_S.DRAINING, _E.FAILED): _S.FAILED,
    (_S.DRAINING, _E.EXITED): _S.ABSENT,
}
"""Pairs that are not listed change nothing."""


def transition(state: DiskState, event: DiskEvent) -> DiskState:
    """The state after the event."""
    return TRANSITIONS.get((state, event), state)


class DiskWatch:
    """Decides from pings, answers and a clock whether to tell READY, LATE, SILENT or OVERDUE.

    One per worker process. All times are monotonic seconds.
    """

    def __init__(self, spawned_at_s: float) -> None:
        self._spawned_at_s = spawned_at_s
        self._ready = False
        self._sequence = 0
        self._asked_at_s: float | None = None
        """When the oldest unanswered ping was sent."""

    def ready(self) -> DiskEvent:
        """The worker reported that its volumes are loaded."""
        self._ready = True
        return DiskEvent.READY

    def next_ping(self, now_s: float) -> int:
        """Number of the ping that is sent now."""
        self._sequence += 1
        if self._asked_at_s is None:
            self._asked_at_s = now_s
        return self._sequence

    def answered(self, sequence: int) -> DiskEvent | None:
        """The worker answered a ping. Only the newest one proves that nothing is left behind."""
        if sequence < self._sequence:
            return None
        self._asked_at_s = None
        return DiskEvent.READY if self._ready else None

    def check(self, now_s: float) -> DiskEvent | None:
        """What the clock alone tells."""
        if not self._ready:
            return DiskEvent.OVERDUE if now_s - self._spawned_at_s >= OPENING_LIMIT_S else None
        silence_s = 0.0 if self._asked_at_s is None else now_s - self._asked_at_s
        if silence_s >= STUCK_AFTER_S:
            return DiskEvent.SILENT
        return DiskEvent.LATE if silence_s >= SLOW_AFTER_S else None


assert all(row.serves == (state in DISK_STATES_THAT_SERVE) for state, row in BEHAVIOUR.items())
