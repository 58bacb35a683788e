"""The transformation itself, and the process that does it: it may crash, hang and lie (http.md 3.9)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.images_kit import decode, difference, encode, gradient, huge_png, jpeg_lying, small_frame_gif
from tests.node_kit import until
from volumed.images import service as images_service
from volumed.images.job import ImageJob
from volumed.images.service import ImageFailed, ImagesBusy, ImageService, Times
from volumed.images.transform import transform

HALF = ImageJob("png", None, 50)
PNG = encode(gradient(100, 37), "PNG")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_every_kind_of_png(mode):
    image = decode(transform(encode(gradient(100, 37, mode), "PNG"), HALF) or b"")
    assert (image.format, image.size) == ("PNG", (50, 19))
    assert image.mode == ("RGBA" if mode == "RGBA" else "RGB")
    source = Image.linear_gradient("L").resize((100, 37)) if mode == "I;16" else gradient(100, 37, mode)
    expected = source.convert("RGBA" if mode == "RGBA" else "RGB").resize((50, 19), Image.Resampling.LANCZOS)
    assert difference(image, expected) < 2


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("GIF", "P"), ("WEBP", "RGB"), ("BMP", "RGB"),
                       ("TIFF", "RGB")]
)  # fmt: skip
def test_every_format(kind, mode):
    image = decode(transform(encode(gradient(100, 37, mode), kind), HALF) or b"")
    assert (image.format, image.size) == ("PNG", (50, 19))
    source = gradient(100, 37, mode).convert("RGB")
    assert difference(image, source.resize((50, 19), Image.Resampling.LANCZOS)) < 6


@pytest.mark.parametrize(("encoding", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("gif", "GIF")])
def test_every_result(encoding, kind):
    image = decode(transform(PNG, ImageJob(encoding, None, 50)) or b"")
    assert (image.format, image.size) == (kind, (50, 19))
    assert difference(image, gradient(50, 19)) < 12


def test_transparent_becomes_black():
    image = transform(encode(gradient(100, 37, "RGBA"), "PNG"), ImageJob("jpeg", (0, 0, 100, 2)))
    assert max(high for _, high in decode(image or b"").getextrema()) < 20


def test_crop_comes_first():
    image = decode(transform(PNG, ImageJob("png", (10, 10, 30, 20), 10)) or b"")
    assert image.size == (10, 5)
    assert difference(image, gradient(100, 37).crop((10, 10, 30, 20)).resize((10, 5))) < 4
    assert decode(transform(PNG, ImageJob("png", (10, 10, 101, 20), 50)) or b"").size == (50, 19)
    assert transform(PNG, ImageJob("png", (10, 10, 101, 20))) is None


def test_a_large_jpeg_is_as_good_as_a_small_one():
    """Also when it is decoded at a fraction of its size and cut."""
    image = decode(transform(encode(gradient(1999, 1301), "JPEG"), ImageJob("png", None, 30, 30)) or b"")
    assert image.size == (30, 30)
    assert difference(image, gradient(1999, 1301).crop((349, 0, 1650, 1301)).resize((30, 30))) < 3


def test_the_first_frame_of_a_gif_counts():
    assert decode(transform(small_frame_gif(), ImageJob("gif", None, 0, 10)) or b"").size == (13, 10)
    frames = encode(gradient(40, 30, "P"), "GIF", save_all=True, append_images=[gradient(40, 30, "P").rotate(90)])
    image = decode(transform(frames, ImageJob("gif", None, 20)) or b"")
    assert (image.size, getattr(image, "n_frames", 1)) == ((20, 15), 1)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"text", PNG[:-200], encode(gradient(100, 37), "JPEG")[:-200], small_frame_gif()[:500],
        encode(gradient(100, 37), "WEBP")[:100],
        encode(gradient(100, 37), "WEBP", save_all=True, append_images=[gradient(100, 37, "L")]),
        encode(gradient(100, 37, "F"), "TIFF"), encode(gradient(100, 37), "PPM"),
        huge_png(100, 37), huge_png(20_000, 20_000), huge_png(0x7FFFFFFF, 0x7FFFFFFF),
        PNG[:33] + b"\0\0\x27\x10zTXt" + b"a\0\0" + zlib.compress(bytes(9_000_000), 9),
    ],
    ids=[
        "empty", "text", "png", "jpeg", "gif", "webp", "animated", "float", "ppm", "short", "large", "absurd",
        "comment",
    ],
)  # fmt: skip
def test_what_cannot_be_decoded_is_left_as_it_is(data):
    assert transform(data, HALF) is None
    assert transform(data, ImageJob(upright=True)) is None


def test_results_have_limits():
    assert transform(PNG, ImageJob("png", None, 50_000_001, 1)) is None
    assert transform(PNG, ImageJob("jpeg", None, 70_000, 10)) == b""
    assert transform(PNG, ImageJob("png", None, 50, 0, "fit")) == b""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_lying_images_are_turned(orientation):
    lying = jpeg_lying(orientation)
    turned = transform(lying, ImageJob(upright=True))
    if orientation == 1:
        assert turned is None
        return
    image = decode(turned or b"")
    assert image.size == ((40, 64) if orientation > 4 else (64, 40))
    assert not image.getexif()
    # The corner that EXIF calls the visual top left.
    corner = {2: (63, 0), 3: (63, 39), 4: (0, 39), 5: (0, 0), 6: (0, 39), 7: (63, 39), 8: (63, 0)}[orientation]
    found, expected = image.convert("RGB").getpixel((0, 0)), decode(lying).getpixel(corner)
    assert all(abs(one - other) < 24 for one, other in zip(found, expected, strict=True))


def test_only_jpeg_with_a_meaning_is_turned():
    assert transform(encode(gradient(9, 9), "JPEG"), ImageJob(upright=True)) is None
    assert transform(PNG, ImageJob(upright=True)) is None
    assert decode(transform(jpeg_lying(9), ImageJob(upright=True)) or b"").size == (64, 40)


# The process


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


CRASH = python("import os; os.read(0, 1); os.abort()")
HANG = python("import time; time.sleep(600)")
LIE = python("import os; os.read(0, 1); os.write(0, b'\\x01\\xff\\xff\\xff\\xff'); os.read(0, 1 << 20); os.read(0, 1)")


async def ask(service: ImageService, data: bytes = PNG, job: ImageJob = HALF) -> bytes | None:
    async def load() -> bytes:
        return data

    return await service.transform(len(data), load, job)


def child_pids() -> list[int]:
    """Children of this process, those not collected yet included."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def kill(pid: int) -> None:
    """And wait for the end, without collecting it."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_the_process_is_started_once_and_ends_when_idle():
    async def run() -> None:
        before = child_pids()
        service = ImageService(times=Times(idle=0.05))
        assert child_pids() == before
        results = await asyncio.gather(*(ask(service) for _ in range(5)))
        assert {decode(image or b"").size for image in results} == {(50, 19)}
        await until(lambda: child_pids() == before)
        # And again.
        assert await ask(service, b"text") is None
        service.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("command", "limit_s", "text"), [(CRASH, 20.0, "ended"), (HANG, 0.1, "more than 0.1 s"), (LIE, 20.0, "too much")]
)
def test_a_process_that_fails_is_replaced(command, limit_s, text):
    async def run() -> None:
        before = child_pids()
        service = ImageService(command, Times(image=limit_s))
        for _ in range(2):
            with pytest.raises(ImageFailed, match=text):
                await ask(service)
        service._command = ImageService()._command
        service._times = Times()
        assert await ask(service) is not None
        service.close()
        await until(lambda: child_pids() == before)

    asyncio.run(run())


def test_a_process_that_was_killed_while_idle_is_replaced():
    async def run() -> None:
        before = child_pids()
        service = ImageService()
        assert await ask(service) is not None
        [pid] = set(child_pids()) - set(before)
        kill(pid)
        assert await ask(service) is not None
        service.close()

    asyncio.run(run())


def test_a_cancelled_request_leaves_no_answer_behind():
    async def run() -> None:
        service = ImageService(HANG)
        task = asyncio.ensure_future(ask(service))
        await until(lambda: service._child is not None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert service._child is None

    asyncio.run(run())


def test_what_waits_is_bounded(monkeypatch):
    monkeypatch.setattr(images_service, "_ADMITTED_BYTES_MAX", 3 * len(PNG))

    async def run() -> None:
        service = ImageService(HANG, Times(image=1000, wait=0.05))
        tasks = [asyncio.ensure_future(ask(service)) for _ in range(5)]
        results = await asyncio.gather(*tasks[1:], return_exceptions=True)
        assert [type(result) for result in results] == [ImagesBusy] * 4
        assert sorted(str(result) for result in results) == [
            "an image has waited too long", "an image has waited too long",
            "too many images wait", "too many images wait",
        ]  # fmt: skip
        tasks[0].cancel()
        await asyncio.wait(tasks)

    asyncio.run(run())


def test_a_large_file_is_not_even_read(monkeypatch):
    monkeypatch.setattr(images_service, "SOURCE_BYTES_MAX", 10)

    async def load() -> bytes:
        raise AssertionError

    assert asyncio.run(ImageService().transform(11, load, HALF)) is None
