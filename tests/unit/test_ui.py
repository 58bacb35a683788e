"""The status page: what an operator must see on it, and that nothing on it can be forged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from supervisor.read_history import ReadHistory, count_reads
from tests.connection_kit import Client, FakeHost
from tests.node_kit import FakeNode, run, until
from volumed.bus.bodypool import BodyPool
from volumed.bus.calls import DiskStatusView, NodeStatusView, ReadHistoryView, ServerState, VolumeView
from volumed.config.node import NodeConfig
from volumed.errors import NodeError
from volumed.formats.report import EcVolumeReport, TaskReport
from volumed.http.pages.markup import duration_text, fill, size_text
from volumed.http.pages.ui import page_pieces
from volumed.http.server import NodeHandler
from volumed.metrics.front import FrontMetrics
from volumed.metrics.page import MetricsPage

CONFIG = NodeConfig(
    runtime_dir="", map_dir="", state_dir="", disks=(), node_id="10.0.0.7:8080", masters=("m1:9333", "m2:9333")
)
DISK = DiskStatusView(0, "/mnt/d0", "", "ok", "", 1000 << 30, 250 << 30, 100, 1, changed_at_s=900.0, worker_starts=1)
VOLUME = VolumeView(7, "photos", "", 0, 0, 3 << 8 | 3, 14 << 20, 512, 0, 0, 1234, 5, 3, False, False)
STATUS = NodeStatusView([DISK], [VOLUME], ServerState(), "m2:9333", 940.0, 5, ReadHistoryView([3], [4], [5], [6]))
EVIL = "\"'><script>alert(1)</script>&"


def page(status: NodeStatusView = STATUS, config: NodeConfig = CONFIG, *, healthy: bool = True) -> str:
    return "".join(page_pieces(status, config, healthy=healthy, now_s=1000.0))


def text(html: str) -> str:
    """What a reader sees, one blank between any two words."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def disk(disk_id: int, **changes: object) -> DiskStatusView:
    return msgspec.structs.replace(DISK, **({"disk_id": disk_id, "directory": f"/mnt/d{disk_id}"} | changes))


def test_the_page_tells_what_the_contract_asks_for() -> None:
    shown = text(page())
    for part in (
        "SeaweedFS 8000GB 4.48 volumed",
        "volume server 10.0.0.7:8080",
        "The disk is ok.",
        "0 /mnt/d0 ok 1m 40s hdd 1 of 100 75.0% 250.00 GiB 1000.00 GiB 0",
        "Masters m1:9333, m2:9333 Connected to m2:9333 Up Time 1m 0s Processes 5",
        "Weekly # ReadRequests 6 by day Daily # ReadRequests 5 by hour",
        "Hourly # ReadRequests 4 by minute Last Minute # ReadRequests 3 by second",
        "7 photos 0 14.00 MiB 1,234 5 / 512 B 3d 000 3",
        "healthy",
    ):
        assert part in shown
    assert "Remote Volumes" not in shown
    assert "Erasure Coding Shards" not in shown


def test_running_tasks_are_listed_as_long_as_there_are_any() -> None:
    encode = TaskReport("encode", 12, 940.0, 3 << 20, 8 << 20)
    rebuild = TaskReport("rebuild", 9, 999.0, 0, 0)
    html = page(msgspec.structs.replace(STATUS, disks=[disk(0, tasks=[encode]), disk(1, tasks=[rebuild])]))
    assert "Running Tasks 2 Task Volume Disk Done Size Since" in text(html)
    assert "encode 12 0 37.5% 8.00 MiB 1m 0s rebuild 9 1 – – 1s" in text(html)
    assert "Running Tasks" not in page()


def test_shards_are_listed_by_volume_and_disk() -> None:
    encoded = EcVolumeReport(
        9, "pics", {3: 2 << 20, 0: 1 << 20}, 1, encode_ts_ns=1_795_256_167_902_707_522, data_shards=10, parity_shards=4
    )
    unknown = EcVolumeReport(9, EVIL, {13: 512}, 2, disk_type="ssd")
    html = page(msgspec.structs.replace(STATUS, ec_volumes=[encoded, unknown]))
    assert "Erasure Coding Shards 3 Id" in text(html)
    assert "EC Shards 3 with 3.00 MiB" in text(html)
    assert "9 pics 1 3.00 MiB 10+4 0: 1.00 MiB 3: 2.00 MiB 2026-11-21 10:16" in text(html)
    assert "2 ssd 512 B 0+0 13: 512 B –" in text(html)
    assert EVIL not in html


def test_all_text_from_outside_is_escaped() -> None:
    named = msgspec.structs.replace(VOLUME, collection=EVIL, disk_type=EVIL)
    remote = msgspec.structs.replace(named, remote_storage_name=EVIL, remote_storage_key=EVIL)
    disks = [disk(0, directory=EVIL, error=EVIL, disk_type=EVIL)] * 9
    status = msgspec.structs.replace(STATUS, disks=disks, volumes=[named, remote], master=EVIL)
    config = msgspec.structs.replace(CONFIG, node_id=EVIL, rack=EVIL, masters=(EVIL,))
    html = page(status, config)
    assert "alert(1)" in html
    assert re.findall(r"<script(?! src=\"/seaweedfsstatic/)", html) == []
    assert EVIL not in html
    assert "\"'" not in html


def test_bad_disks_come_first() -> None:
    states = {3: ("ok", ""), 4: ("slow", "slow probes"), 5: ("stuck", ""), 6: ("failed", "no such directory")}
    disks = [disk(number, state=state, error=error) for number, (state, error) in states.items()]
    disks.append(disk(7, space_low=True))
    html = page(msgspec.structs.replace(STATUS, disks=disks))
    assert re.findall(r'<tr id="disk-(\d)" class="(\w+)"', html) == [
        ("6", "bad"), ("5", "bad"), ("4", "warn"), ("7", "warn"), ("3", "ok"),
    ]  # fmt: skip
    assert (
        "3 of 5 disks are not ok disk 6 /mnt/d6 is failed : no such directory "
        "disk 5 /mnt/d5 is stuck disk 4 /mnt/d4 is slow : slow probes Disk Stats"
    ) in text(html)


@pytest.mark.parametrize(("count", "tiles"), [(7, 0), (60, 60)])
def test_many_disks_get_a_map(count: int, tiles: int) -> None:
    assert page(msgspec.structs.replace(STATUS, disks=[disk(i) for i in range(count)])).count('class="tile') == tiles


def test_a_disk_of_unknown_size_is_shown() -> None:
    absent = disk(0, state="absent", total_bytes=0, free_bytes=0, changed_at_s=0.0, worker_starts=0)
    assert "0 /mnt/d0 absent hdd 1 of 100 – – – 0" in text(page(msgspec.structs.replace(STATUS, disks=[absent])))


def test_thousands_of_volumes_come_in_pieces() -> None:
    volumes = [msgspec.structs.replace(VOLUME, id=number) for number in range(2000)]
    pieces = list(page_pieces(msgspec.structs.replace(STATUS, volumes=volumes), CONFIG, healthy=True, now_s=1000.0))
    assert max(map(len, pieces)) < 64 << 10
    assert "".join(pieces).count("<td>photos<td") == 2000


def test_other_states_of_a_node_are_named() -> None:
    status = msgspec.structs.replace(STATUS, volumes=[], state=ServerState(maintenance=True), master="")
    shown = text(page(status, healthy=False))
    for part in ("not healthy", "maintenance", "Connected to no master", "There are no volumes yet."):
        assert part in shown
    assert "Masters none, standalone" in text(page(config=msgspec.structs.replace(CONFIG, standalone=True)))


def test_remote_and_read_only_volumes() -> None:
    remote = msgspec.structs.replace(VOLUME, id=8, remote_storage_name="s3.cold", remote_storage_key="k/8.dat")
    frozen = msgspec.structs.replace(VOLUME, id=9, read_only=True)
    full = msgspec.structs.replace(VOLUME, id=10, read_only_can_delete=True)
    shown = text(page(msgspec.structs.replace(STATUS, volumes=[remote, frozen, full])))
    assert "Remote Volumes 1" in shown
    assert "8 photos 14.00 MiB 1,234 5 / 512 B s3.cold k/8.dat" in shown
    assert "000 read-only 3" in shown
    assert "000 read-only, can delete 3" in shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (14 << 20, "14.00 MiB"), (3 << 50, "3.00 PiB"), (1 << 80, "1048576.00 EiB")],
)
def test_sizes(size: int, shown: str) -> None:
    assert size_text(size) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(-3, "0s"), (59.9, "59s"), (3725, "1h 2m"), (90000, "1d 1h")])
def test_durations(seconds: float, shown: str) -> None:
    assert duration_text(seconds) == shown


def test_only_what_was_made_here_is_not_escaped() -> None:
    assert fill("<b>{}</b>{}", "<", fill("<i>{}</i>", ">")) == "<b>&lt;</b><i>&gt;</i>"


class SilentSupervisor(FakeNode):
    async def call(self, _request: Any, _timeout_s: float) -> Any:
        raise NodeError("the supervisor does not answer")


def test_without_the_supervisor_the_page_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        pool = BodyPool(str(tmp_path / "pool"), 16 << 20, 1 << 20)
        host = FakeHost(pool=pool)
        host.handler = NodeHandler(SilentSupervisor(pool))  # type: ignore[assignment, arg-type]
        client = Client(host)
        client.send(b"GET /ui/index.html HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: bool(client.statuses()))
        assert client.statuses() == [503]
        assert b"the supervisor does not answer" in client.sent
        pool.close()

    run(test())


class TestReadHistory:
    def test_counts_what_is_new_since_the_last_look(self) -> None:
        history = ReadHistory()
        history.observe(1000.0, 12)
        history.observe(1001.0, 17)
        view = history.view()
        assert view.seconds[-2:] == [12, 5]
        assert view.minutes[-1] == view.hours[-1] == view.days[-1] == 17
        assert list(map(len, (view.seconds, view.minutes, view.hours, view.days))) == [60, 60, 24, 7]

    def test_old_periods_fall_out(self) -> None:
        history = ReadHistory()
        history.observe(0.0, 5)
        history.observe(61.0, 5)
        view = history.view()
        assert sum(view.seconds) == 0
        assert view.minutes[-2:] == [5, 0]
        history.observe(9e6, 6)
        assert sum(history.view().days) == 1

    def test_reads_of_all_fronts_are_counted(self, tmp_path: Path) -> None:
        pages = str(tmp_path / "metrics-http-")
        for slot in (0, 1):
            metrics = FrontMetrics(MetricsPage(f"{pages}{slot}"))
            for method, status in (("GET", 200), ("GET", 404), ("HEAD", 200), ("PUT", 201)):
                metrics.answered(method, status, 0.0, public=False)
        assert count_reads(pages) == 6

    def test_a_page_that_is_being_made_counts_nothing_yet(self, tmp_path: Path) -> None:
        pages = str(tmp_path / "metrics-http-")
        FrontMetrics(MetricsPage(f"{pages}0")).answered("GET", 200, 0.0, public=False)
        (tmp_path / "metrics-http-1").touch()
        assert count_reads(pages) == 1
