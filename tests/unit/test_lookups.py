"""What waits for a master that is silent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from supervisor import jobs as jobs_module
from supervisor import lookups, master_calls
from supervisor.jobs import Jobs
from supervisor.lookups import Lookups
from supervisor.loop import Loop
from supervisor.master_calls import MasterCluster
from volumed.bus import calls
from volumed.errors import RetryError, VolumedError

FOUND = calls.EcLocations({})
LIMIT_S = 30.0


class Answers:
    """Replies, and a loop that runs until so many have been answered."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.found: list[object] = []
        self._expected = 0

    def result(self, value: object = None) -> None:
        self._add(value)

    def error(self, error: BaseException) -> None:
        self._add(str(error))

    def wait(self, count: int) -> list[object]:
        self._expected = count
        timer = self.loop.call_later(LIMIT_S, self.loop.stop)
        if len(self.found) < count:
            self.loop.run()
        timer.cancel()
        return self.found

    def _add(self, answer: object) -> None:
        self.found.append(answer)
        if len(self.found) == self._expected:
            self.loop.stop()


class SilentMaster:
    """In place of `MasterCalls`: answers when `speaks` is set."""

    def __init__(self) -> None:
        self.speaks = threading.Event()
        self.asked: list[int] = []

    def known(self, request: calls.LookupVolume) -> calls.Locations | None:
        return calls.Locations([]) if request.max_age_s else None

    def lookup(self, request: calls.LookupVolume, _timeout_s: float) -> calls.Locations:
        self._listen(request.volume_id)
        return calls.Locations([])

    def lookup_shards(self, request: calls.LookupEcVolume, _timeout_s: float) -> calls.EcLocations:
        self._listen(request.volume_id)
        return FOUND

    def mark_readonly(self, request: calls.MarkReadonlyOnMaster) -> None:
        self._listen(request.volume_id)

    def ping(self, _request: calls.PingMaster) -> None:
        self._listen(0)

    def _listen(self, volume_id: int) -> None:
        self.asked.append(volume_id)
        self.speaks.wait()


@pytest.fixture
def master() -> Iterator[SilentMaster]:
    silent = SilentMaster()
    yield silent
    silent.speaks.set()


@pytest.fixture
def answers() -> Answers:
    return Answers()


def cluster(master: SilentMaster, answers: Answers) -> MasterCluster:
    channels: Any = None
    return MasterCluster(master, channels, answers.loop)  # type: ignore[arg-type]


def test_many_who_ask_the_same_are_answered_with_one_call(master: SilentMaster, answers: Answers) -> None:
    asked = cluster(master, answers)
    for _ in range(100):
        asked.look_up_shards(calls.LookupEcVolume(5), answers)  # type: ignore[arg-type]
    for max_age_s in (0.0, 0.0):
        asked.look_up(calls.LookupVolume(6, "", max_age_s), answers)  # type: ignore[arg-type]
    master.speaks.set()
    assert answers.wait(102).count(FOUND) == 100
    assert sorted(master.asked) == [5, 6]
    asked.look_up_shards(calls.LookupEcVolume(5), answers)  # type: ignore[arg-type]
    answers.wait(103)
    assert sorted(master.asked) == [5, 5, 6], "what was answered is asked anew"


def test_too_many_who_wait(master: SilentMaster, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "_WAITING_MAX", 20)
    asked = cluster(master, answers)
    for volume_id in range(20):
        asked.look_up_shards(calls.LookupEcVolume(volume_id // 2), answers)  # type: ignore[arg-type]
    for volume_id in (0, 77):
        with pytest.raises(RetryError, match="too many look-ups wait for the master"):
            asked.look_up_shards(calls.LookupEcVolume(volume_id), answers)  # type: ignore[arg-type]
    master.speaks.set()
    assert answers.wait(20) == [FOUND] * 20
    asked.look_up_shards(calls.LookupEcVolume(77), answers)  # type: ignore[arg-type]
    assert answers.wait(21)[-1] is FOUND


def test_who_has_waited_too_long_is_not_asked_for(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "_LIMIT_S", 0.0)
    asked: list[float] = []
    Lookups(Jobs(answers.loop, "test", threads=1)).ask(
        calls.LookupEcVolume(5),
        asked.append,  # type: ignore[arg-type]
        answers,  # type: ignore[arg-type]
    )
    assert answers.wait(1) == ["the master does not answer"]
    assert asked == []


def asks(volume_id: int) -> list[tuple[str, Any]]:
    return [
        ("look_up", calls.LookupVolume(volume_id)),
        ("look_up_shards", calls.LookupEcVolume(volume_id)),
        ("mark_readonly", calls.MarkReadonlyOnMaster(volume_id, "", 0, 0, "", is_readonly=True)),
        ("ping", calls.PingMaster("m:9333", "master")),
    ]


def test_what_needs_no_master_does_not_wait_for_it(
    master: SilentMaster, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = calls.DeletionResults([])
    monkeypatch.setattr(master_calls, "delete_at_server", lambda *_: results)
    asked, nobody = cluster(master, answers), Answers()
    for volume_id in range(50):
        for name, request in asks(volume_id):
            getattr(asked, name)(request, nobody)
    asked.look_up(calls.LookupVolume(5, max_age_s=10.0), answers)  # type: ignore[arg-type]
    asked.delete_at(calls.DeleteAtServer("s:80", 0, []), answers)  # type: ignore[arg-type]
    assert answers.wait(2) == [calls.Locations([]), results]
    assert nobody.found == []


def test_jobs_are_bounded(answers: Answers, master: SilentMaster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "_UNFINISHED_MAX", 2)
    jobs = Jobs(answers.loop, "tests", threads=1)
    work: Callable[[], object] = master.speaks.wait

    def failed(error: VolumedError) -> None:
        answers.error(error)
        master.speaks.set()

    for _ in range(3):
        jobs.submit(work, answers.result, failed)
    assert answers.wait(3) == ["too many jobs wait: tests", True, True]
    jobs.submit(work, answers.result, failed)
    assert answers.wait(4)[-1] is True
