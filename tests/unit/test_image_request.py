"""Which images are asked for, and how large they become (http.md 3.9)."""

from __future__ import annotations

import pytest

from tests.node_kit import needle, request
from volumed.formats.needle import FLAG_GZIP, FLAG_NAME
from volumed.http.rules.image_request import file_image_job, image_job, needle_image_job
from volumed.http.rules.manifest import ChunkManifest
from volumed.http.text.paths import parse_read_path
from volumed.http.text.query import parse_query
from volumed.images.geometry import EMPTY, Scaling, Size, crop_fits, scaling
from volumed.images.job import ImageJob

INT64_MAX = (1 << 63) - 1


def size_of(found: Scaling | None) -> tuple[int, int] | None:
    return None if found is None else tuple(found.size)


@pytest.mark.parametrize(
    ("source", "wanted", "mode", "size"),
    [
        # One side given: the other is rounded, at least 1
        ((100, 37), (50, 0), "", (50, 19)),
        ((100, 37), (0, 10), "", (27, 10)),
        ((100, 37), (1, 0), "", (1, 1)),
        ((100, 1), (3, 0), "", (3, 1)),
        # Both: each as given, also when one of them grows
        ((100, 37), (50, 30), "", (50, 30)),
        ((60, 40), (100, 20), "", (100, 20)),
        ((100, 37), (50, 50), "", (50, 50)),
        ((60, 60), (50, 50), "", (50, 50)),
        ((100, 37), (50, 30), "other", (50, 30)),
        # Nothing shrinks: left as it is
        ((100, 37), (100, 37), "", None),
        ((100, 37), (200, 0), "", None),
        ((100, 37), (200, 300), "fit", None),
        ((100, 37), (200, 300), "fill", None),
        ((100, 37), (0, 0), "", None),
        # Fit: the derived side is cut off, at least 1
        ((100, 37), (50, 50), "fit", (50, 18)),
        ((37, 100), (50, 50), "fit", (18, 50)),
        ((100, 37), (200, 10), "fit", (27, 10)),
        ((100, 37), (3, 200), "fit", (3, 1)),
        ((100, 37), (1, 1), "fit", (1, 1)),
        ((100, 37), (INT64_MAX, 1), "fit", (2, 1)),
        # Fill
        ((100, 37), (50, 50), "fill", (50, 50)),
        ((100, 37), (200, 10), "fill", (200, 10)),
        # No image
        ((100, 37), (50, 0), "fit", EMPTY),
        ((100, 37), (0, 30), "fill", EMPTY),
        ((100, 37), (50, -5), "", EMPTY),
        ((100, 37), (-5, 50), "fit", EMPTY),
    ],
)
def test_sizes(source, wanted, mode, size):
    assert size_of(scaling(Size(*source), *wanted, mode)) == size


@pytest.mark.parametrize(
    ("wanted", "mode", "box"),
    [
        ((50, 50), "", (30, 0, 70, 40)),
        ((50, 50), "fill", (30, 0, 70, 40)),
        ((50, 10), "fill", (0, 10, 100, 30)),
        ((50, 10), "fit", (0, 0, 100, 40)),
    ],
)
def test_what_is_cut_off(wanted, mode, box):
    found = scaling(Size(100, 40), *wanted, mode)
    assert found is not None
    assert found.box == box


def test_a_crop_must_lie_inside():
    assert crop_fits(Size(10, 20), (0, 0, 10, 20))
    assert not crop_fits(Size(10, 20), (0, 0, 11, 20))
    assert not crop_fits(Size(10, 20), (5, 5, 10, 21))


@pytest.mark.parametrize(
    ("ext", "query", "job"),
    [
        (".png", "width=5", ImageJob("png", None, 5)),
        (".JPG", "width=5&height=7&mode=fit", ImageJob("jpeg", None, 5, 7, "fit")),
        (".jpeg", "height=%2B7", ImageJob("jpeg", None, 0, 7)),
        (".webp", "width=5", ImageJob("png", None, 5)),
        (".gif", "width=5&height=-3", ImageJob("gif", None, 5, -3)),
        (".png", "width=5&width=7", ImageJob("png", None, 5)),
        (".png", "width=99999999999999999999", ImageJob("png", None, INT64_MAX)),
        (".png", "height=1&width=-" + "9" * 5000, ImageJob("png", None, -INT64_MAX, 1)),
        (".png", "width=000000000000000000000005", ImageJob("png", None, 5)),
        (".png", "", None),
        (".png", "mode=fit", None),
        (".png", "width=0", None),
        (".png", "width=-5", None),
        (".png", "width=5x", None),
        (".png", "width=5_0", None),
        (".png", "width=٥", None),
        (".png", "Width=5", None),
        (".bmp", "width=5", None),
        ("", "width=5", None),
        (".png", "crop_x2=3&crop_y2=4", ImageJob("png", (0, 0, 3, 4))),
        (".png", "crop_x2=3&crop_y2=4&width=-1", ImageJob("png", (0, 0, 3, 4))),
        (".gif", "crop_x1=1&crop_y1=2&crop_x2=3&crop_y2=4&width=9", ImageJob("gif", (1, 2, 3, 4), 9)),
        (".webp", "crop_x2=3&crop_y2=4", None),
        (".webp", "crop_x2=3&crop_y2=4&width=9", ImageJob("png", None, 9)),
        (".png", "crop_x1=-1&crop_x2=3&crop_y2=4", None),
        (".png", "crop_x1=3&crop_x2=3&crop_y2=4", None),
        (".png", "crop_x2=3", None),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_what_is_asked_for(ext, query, job):
    assert image_job(ext, parse_query(query.encode())) == job


@pytest.mark.parametrize(
    ("path", "name", "asked"),
    [
        ("/7,01aabbccdd", b"a.png", True),
        ("/7,01aabbccdd", b"a.txt", False),
        ("/7,01aabbccdd.txt", b"a.png", False),
        ("/7,01aabbccdd.png", b"a.txt", True),
        ("/7/01aabbccdd/x.png", b"a.txt", True),
        ("/7/01aabbccdd/x", b"a.png", False),
    ],
)
def test_the_extension_of_the_url_goes_before_that_of_the_stored_name(path, name, asked):
    stored = needle(b"x", flags=FLAG_NAME, name=name)
    form = {"width": "5"}
    job = needle_image_job(request("GET", path), form, parse_read_path(path), stored, paged=False)
    assert (job is not None) == asked


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("GET", "/7,01aabbccdd.png", True),
        ("GET", "/7,01aabbccdd", False),
        ("HEAD", "/7,01aabbccdd.png", False),
    ],
)
def test_a_large_file_is_transformed_only_when_the_url_says_image(method, path, asked):
    stored = needle(b"x", flags=FLAG_NAME, name=b"a.png")
    job = needle_image_job(request(method, path), {"width": "5"}, parse_read_path(path), stored, paged=True)
    assert (job is not None) == asked


@pytest.mark.parametrize(
    ("ext", "accepted", "asked"), [(".png", "gzip", True), (".PNG", "gzip", False), (".PNG", "br", True)]
)
def test_compressed_data_stay_so_for_an_extension_in_capitals(ext, accepted, asked):
    path = parse_read_path(f"/7,01aabbccdd{ext}")
    question = request("GET", "/", accept_encoding=accepted)
    job = needle_image_job(question, {"width": "5"}, path, needle(b"x", flags=FLAG_GZIP), paged=False)
    assert (job is not None) == asked


def test_a_manifest_has_a_name_of_its_own():
    manifest = ChunkManifest("whole.JPG", "", 0, ())
    assert file_image_job({"width": "5"}, parse_read_path("/7,01aabbccdd"), manifest) == ImageJob("jpeg", None, 5)
    assert file_image_job({"width": "5"}, parse_read_path("/7,01aabbccdd.txt"), manifest) is None
    assert file_image_job({"width": "5"}, parse_read_path("/7/01aabbccdd/x"), manifest) is None
