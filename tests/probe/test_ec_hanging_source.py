"""A disk that hangs while others read it holds up nothing of theirs but what needs it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.bus_kit import run
from tests.ec_sets import EncodedSet
from tests.worker_kit import worker_rig
from volumed.bus.calls import Request
from volumed.bus.ec_calls import (
    DeleteEcNeedle,
    EcDirectories,
    FoldJournal,
    MergeDeletions,
    MirrorSidecars,
    TakeOverDeletions,
)

pytestmark = pytest.mark.probe

VOLUME = 7
AT_ONCE = 3


@pytest.mark.parametrize("asked", ["merge", "mirror", "take over"])
def test_work_on_the_own_files_goes_on(tmp_path: Path, asked: str) -> None:
    async def test() -> None:
        async with worker_rig(tmp_path) as rig:
            encoded = EncodedSet(tmp_path / "set")
            encoded.place(Path(rig.node.config.disks[0].directory), VOLUME)
            elsewhere = tmp_path / "elsewhere"
            for volume_id in (1, VOLUME, VOLUME + 1, VOLUME + 2):
                encoded.place(elsewhere, volume_id)
                # Whoever opens it waits, as for a disk that hangs.
                os.mkfifo(elsewhere / f"{volume_id}.ecj")
            source = EcDirectories(str(elsewhere), str(elsewhere))
            requests: dict[str, list[Request]] = {
                "merge": [MergeDeletions(VOLUME, "", [source])] * AT_ONCE,
                "mirror": [MirrorSidecars(VOLUME + number, "", [".ecj"], source) for number in range(1, AT_ONCE)],
                "take over": [TakeOverDeletions(1, "", [source])] * AT_ONCE,
            }
            await rig.start_with_volume()
            hanging = [asyncio.ensure_future(rig.call(request)) for request in requests[asked]]
            await rig.call(DeleteEcNeedle(VOLUME, 3))
            await rig.call(FoldJournal(VOLUME, ""))
            assert not any(future.done() for future in hanging)
            for future in hanging:
                future.cancel()

    run(test)
