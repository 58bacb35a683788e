"""Work that goes on when its client is gone."""

from __future__ import annotations

import asyncio

import pytest

from volumed.http.objects.background import finish_anyway, unfinished


def test_what_fails_unseen_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        go = asyncio.Event()

        async def work() -> None:
            await go.wait()
            raise ValueError("broken")

        client = asyncio.create_task(finish_anyway(work()))
        await asyncio.sleep(0)
        client.cancel()
        await asyncio.wait([client])
        assert client.cancelled()
        go.set()
        (left,) = unfinished()
        await asyncio.wait([left])
        await asyncio.sleep(0)
        assert not unfinished()

    asyncio.run(test())
    assert [record.getMessage() for record in caplog.records] == ["work whose client is gone failed: broken"]


def test_what_fails_before_a_client_is_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(finish_anyway(work()))
    assert not caplog.records
