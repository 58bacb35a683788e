"""What the handlers make of an image process that is busy or fails (http.md 3.9, 4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.images_kit import jpeg_lying
from tests.node_kit import PATH, FakeNode, ask, needle
from volumed.bus.bodypool import BodyPool
from volumed.images.job import ImageJob
from volumed.images.service import ImageFailed, ImagesBusy

LYING = jpeg_lying(6)


class FakeImages:
    """Answers every job with the same file or error."""

    def __init__(self, result: bytes | Exception | None) -> None:
        self.result = result
        self.jobs: list[ImageJob] = []

    async def transform(self, size, load, job):
        assert len(await load()) == size
        self.jobs.append(job)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    pool = BodyPool(str(tmp_path / "pool"))
    node = FakeNode(pool)
    node.config = msgspec.structs.replace(node.config, images_upright=True)
    node.put(needle(b"stored"))
    yield node
    pool.close()


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (b"new", (200, b"new")),
        (b"", (200, b"")),
        (None, (200, b"stored")),
        (ImageFailed("crash"), (500, b"")),
        (ImagesBusy("busy"), (503, b"")),
    ],
    ids=["new", "empty", "untouched", "failed", "busy"],
)
def test_reads(node, result, answer):
    node.images = FakeImages(result)
    assert ask(node, "GET", f"{PATH}.png?width=5") == answer
    assert node.images.jobs == [ImageJob("png", None, 5)]


def test_a_read_that_asks_for_no_image_starts_nothing(node):
    node.images = FakeImages(b"new")
    assert ask(node, "GET", f"{PATH}.txt?width=5") == (200, b"stored")
    assert ask(node, "GET", f"{PATH}.png?mode=fit") == (200, b"stored")
    assert node.images.jobs == []


@pytest.mark.parametrize("result", [b"upright", None, ImageFailed("crash"), ImagesBusy("busy")])
def test_an_upload_is_stored_whatever_happens_to_the_image(node, result):
    node.images = FakeImages(result)
    status, _ = ask(node, "PUT", PATH, LYING, content_type="image/jpeg")
    assert status == 201
    assert node.images.jobs == [ImageJob(upright=True)]
    assert (b"upright" if result == b"upright" else LYING) in node.bodies[0]


@pytest.mark.parametrize(
    ("data", "kind"), [(LYING, "image/png"), (b"\xff\xd8 no exif", "image/jpeg"), (b"Exif\0\0", "image/jpeg")]
)
def test_other_uploads_are_no_images_to_turn(node, data, kind):
    node.images = FakeImages(b"upright")
    assert ask(node, "PUT", PATH, data, content_type=kind)[0] == 201
    assert node.images.jobs == []


def test_nothing_is_turned_without_the_flag(node):
    node.config = msgspec.structs.replace(node.config, images_upright=False)
    node.images = FakeImages(b"upright")
    assert ask(node, "PUT", PATH, LYING, content_type="image/jpeg")[0] == 201
    assert LYING in node.bodies[0]
