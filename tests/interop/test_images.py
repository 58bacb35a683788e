"""The same images and requests for images to the reference server and to volumed (http.md 3.9, 4.3).

Equal must be status, headers, and the decoded image's format, mode and size; pixels only nearly, since encoders and
resampling differ. Bytes that are sent untouched are compared as bytes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from PIL import Image

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.images_kit import decode, difference, encode, gradient, jpeg_lying, small_frame_gif
from tests.web import Response, assign, multipart, request

pytestmark = pytest.mark.interop

FLAGS = ["-readMode=local", "-images.fix.orientation"]
RESULT_DEPENDS = {"Date", "X-Amz-Request-Id", "Content-Length", "Content-Range"}
DIFFERENCE_MAX = 3.0
DIFFERENCE_MAX_GIF = 24.0
"""The reference maps a GIF's colours to a fixed palette."""
LARGE = encode(Image.effect_noise((1000, 800), 100).convert("RGB"), "PNG")
"""Over 1 MiB."""
SMALL = encode(gradient(100, 37), "PNG")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>' * 40


def manifest(name: str, chunk: str, size: int) -> bytes:
    return json.dumps({"name": name, "size": size, "chunks": [{"fid": chunk, "offset": 0, "size": size}]}).encode()


FILES: dict[str, tuple[str, bytes]] = {
    "01": ("a.png", SMALL),
    "02": ("a.jpg", encode(gradient(100, 37), "JPEG")),
    "03": ("a.gif", encode(gradient(100, 37), "GIF")),
    "04": ("a.webp", encode(gradient(100, 37), "WEBP", lossless=True)),
    "05": ("a.bmp", encode(gradient(100, 37), "BMP")),
    "06": ("a.tiff", encode(gradient(100, 37), "TIFF")),
    "07": ("alpha.png", encode(gradient(100, 37, "RGBA"), "PNG")),
    "08": ("cmyk.jpg", encode(gradient(100, 37, "CMYK"), "JPEG")),
    "09": ("gray.png", encode(gradient(100, 37, "LA"), "PNG")),
    "0a": ("palette.png", encode(gradient(100, 37, "P"), "PNG")),
    "0b": ("deep.png", encode(gradient(100, 37, "I;16"), "PNG")),
    "0c": ("cut.png", SMALL[:-200]),
    "0d": ("cut.jpg", encode(gradient(100, 37), "JPEG")[:-200]),
    "0e": ("text.png", b"no image at all"),
    "0f": ("moving.webp", encode(gradient(9, 9), "WEBP", save_all=True, append_images=[gradient(9, 9, "L")])),
    "10": ("moving.gif", encode(gradient(90, 40), "GIF", save_all=True, append_images=[gradient(90, 40, "L")])),
    "11": ("frame.gif", small_frame_gif()),
    "12": ("large.png", LARGE),
    "13": ("noname", SMALL),
    "14": ("empty.png", b""),
    "15": ("square.png", encode(gradient(60, 60), "PNG")),
    "16": ("thin.png", encode(gradient(1, 300), "PNG")),
    "17": ("drawing.svg", SVG),
    "18": ("zipped.png", gzip.compress(SMALL, mtime=0)),
    "19": ("ZIPPED.PNG", gzip.compress(SMALL, mtime=0)),
    "1a": ("broken.png", gzip.compress(SMALL, mtime=0)[:500]),
    "1b": ("photo.jpg", encode(gradient(1601, 1203), "JPEG")),
    "1c": ("l.png", encode(gradient(37, 100, "L"), "PNG")),
}
ZIPPED = {"18", "19", "1a"}
MANIFESTS = {
    "20": manifest("whole.png", "1,01aaaaaaaa", len(SMALL)),
    "21": manifest("whole", "1,12aaaaaaaa", len(LARGE)),
    "22": manifest("whole.png", "1,99aaaaaaaa", 100),
}
GZIP = {"Accept-Encoding": "gzip"}


@dataclass(frozen=True)
class Case:
    """One request: what follows `/1,`, or a whole path."""

    target: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return self.target if self.target.startswith("/") else f"/1,{self.target}"

    def __str__(self) -> str:
        return " ".join([self.method, self.target, *(f"{name}:{value}" for name, value in self.headers.items())])


def fid(key: str, ext: str = "", query: str = "width=50") -> str:
    return f"{key}aaaaaaaa{ext}?{query}"


EXTENSIONS = (".png", ".jpeg", ".gif", ".webp")
SIZES = (
    "height=10", "width=50&height=30", "width=50&height=50", "width=50&height=50&mode=fit",
    "width=50&height=50&mode=fill", "width=70&height=10&mode=fill", "width=200&height=10&mode=fit",
    "width=3&height=200&mode=fit", "width=1&height=1&mode=fit", "width=200", "width=200&height=10", "width=1",
    "width=99999999999999999999&height=1&mode=fit", "width=0x10", "width=5_0", "width=%2B50", "Width=50",
    "width=50&width=20", "width=50;&height=9", "width=-5", "width=0&height=0", "width=33&height=33&mode=other",
)  # fmt: skip
CROPS = (
    "crop_x2=40&crop_y2=20", "crop_x1=7&crop_y1=3&crop_x2=40&crop_y2=20", "crop_x2=100&crop_y2=37",
    "crop_x2=101&crop_y2=37", "crop_x1=-1&crop_x2=10&crop_y2=10", "crop_x1=9&crop_x2=9&crop_y2=9", "crop_x2=9",
    "crop_x2=50&crop_y2=20&width=20", "crop_x2=50&crop_y2=20&width=70", "crop_x2=500&crop_y2=20&width=70",
    "crop_x2=50&crop_y2=20&width=9&height=9&mode=fill",
)  # fmt: skip

CASES = [
    *(Case(fid(key)) for key in FILES),
    *(Case(fid(key, ext)) for key in ("01", "02", "04", "05", "06", "07") for ext in EXTENSIONS),
    *(Case(fid("01", ext)) for ext in (".bmp", ".txt", ".JPG")),
    *(Case(fid("01", "", query)) for query in (*SIZES, *CROPS)),
    *(Case(fid("02", ".jpg", query)) for query in ("width=41&height=13", *CROPS[:2])),
    *(Case(fid("1c", "", query)) for query in ("width=20&height=20&mode=fit", "width=20&height=20", "height=33")),
    *(Case(fid("1b", "", query)) for query in ("width=200&height=77&mode=fill", "width=333", "width=800&mode=x")),
    *(Case(fid("04", "", query)) for query in CROPS[:1]),
    *(Case(fid("11", "", query)) for query in ("height=10", "width=90&height=20", "crop_x2=60&crop_y2=20")),
    *(Case(fid("16", "", query)) for query in ("height=7", "width=1&height=9&mode=fit", "width=20&height=20")),
    # No pixels, in a format whose empty file is empty
    *(Case(fid("01", "", query)) for query in ("width=50&mode=fit", "height=9&mode=fill", "width=-5&height=20")),
    *(Case(fid("16", ext, "width=70000&height=10")) for ext in (".jpg", ".gif")),
    # Large
    *(Case(fid("12", ext), method) for ext in ("", ".jpg", ".PNG") for method in ("GET", "HEAD")),
    # What is sent
    *(Case(fid("0e"), "GET", {"Range": text}) for text in ("bytes=2-4", "bytes=-3", "bytes=99-")),
    Case(fid("12", ".jpg"), "GET", {"Range": "bytes=0-1"}),
    Case(fid("01"), "GET", {"Range": "bytes=9999-"}),
    Case(fid("01"), "GET", {"Range": "bytes=0-9"}),
    Case(fid("01"), "GET", {"If-None-Match": '"00000000"'}),
    Case(fid("01", "", "width=50&dl=true&response-content-type=a/b")),
    Case(f"/1/{fid('01', '/x')}"),
    Case(f"/1/{fid('01', '/x.jpg')}"),
    Case(f"/1/{fid('12', '/x.jpg')}"),
    *(Case(fid(key), "HEAD") for key in ("0e", "14", "17")),
    # Compressed
    *(Case(fid(key, ext), "GET", GZIP) for key in ("17", "18", "19", "1a") for ext in ("", ".png", ".PNG")),
    # Manifests
    *(Case(fid(key, ext), method) for key in MANIFESTS for ext in ("", ".jpg", ".txt") for method in ("GET", "HEAD")),
    Case(fid("20", "", "cm=false&width=50")),
    Case(fid("20"), "GET", {"Range": "bytes=0-9"}),
]  # fmt: skip

LYING: dict[str, tuple[str, str, bytes]] = {
    **{f"3{n}": ("a.jpg", "", jpeg_lying(n)) for n in range(10)},
    "40": ("a.bin", "image/jpeg", jpeg_lying(6)),
    "41": ("a.JPEG", "image/png", jpeg_lying(6)),
    "42": ("a.bin", "", jpeg_lying(6)),
    "43": ("a.jpg", "", jpeg_lying(6)[:-300]),
    "44": ("a.jpg", "", encode(gradient(64, 40), "JPEG")),
    "45": ("a.jpg", "", jpeg_lying(6, gradient(64, 40, "L"))),
    "46": ("a.jpg", "", jpeg_lying(8, gradient(64, 40, "CMYK"))),
    "47": ("a.jpg", "", jpeg_lying(3, Image.effect_noise((700, 600), 90).convert("RGB"))),
}


def put(address: str, key: str, name: str, mime: str, data: bytes, *, zipped: bool = False) -> Response:
    headers = [f"Content-MD5: {base64.b64encode(hashlib.md5(data).digest()).decode()}"] if not zipped else []
    body, described = multipart(
        data, filename=name, mime=mime, part_headers=[*headers, *(["Content-Encoding: gzip"] if zipped else [])]
    )
    answer = request("POST", address, f"/1,{key}aaaaaaaa?ts=1700000000", body=body, headers=described)
    assert answer.status == 201, answer
    return answer


def prepare(address: str) -> None:
    for key, (name, data) in FILES.items():
        put(address, key, name, "", data, zipped=key in ZIPPED)
    for key, data in MANIFESTS.items():
        request("PUT", address, f"/1,{key}aaaaaaaa?cm=true&ts=1700000000", body=data)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Addresses of the reference and of ours."""
    home = tmp_path_factory.mktemp("images")
    with ExitStack() as stack:
        addresses = []
        kinds: tuple[type[VolumeServer], ...] = (WeedVolume, Volumed)
        for kind in kinds:
            master = stack.enter_context(Master(home / f"{kind.__name__}-m"))
            server = stack.enter_context(kind(home / kind.__name__, master=master, flags=FLAGS))
            assign(master.address)
            prepare(server.address)
            addresses.append(server.address)
        yield addresses[0], addresses[1]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_answers_are_equal(case: Case, servers: tuple[str, str]) -> None:
    expected, found = (
        request(case.method, address, case.path, headers={"Accept-Encoding": "identity", **case.headers})
        for address in servers
    )
    assert found.status == expected.status
    assert bool(int(found.headers["Content-Length"])) == bool(int(expected.headers["Content-Length"]))
    assert _headers(found) == _headers(expected)
    if found.body != _without_address(expected.body, servers):
        _compare(expected.body, found.body)
    else:
        assert found.headers["Content-Length"] == expected.headers["Content-Length"] or case.method == "HEAD"


def _headers(answer: Response) -> dict[str, str]:
    dropped = RESULT_DEPENDS | ({"Etag"} if "X-File-Store" in answer.headers else set())
    return {name: value for name, value in answer.headers.items() if name not in dropped}


def _without_address(body: bytes, servers: tuple[str, str]) -> bytes:
    return body.replace(servers[0].encode(), servers[1].encode())


def _compare(expected: bytes, found: bytes) -> None:
    if len(found) < 20:
        assert found[:2] == expected[:2]
        return
    ours, theirs = decode(found), decode(expected)
    assert (ours.format, ours.mode, ours.size) == (theirs.format, theirs.mode, theirs.size)
    assert difference(ours, theirs) < (DIFFERENCE_MAX_GIF if ours.format == "GIF" else DIFFERENCE_MAX)


@pytest.mark.parametrize("key", LYING)
def test_images_are_turned_upright(key: str, servers: tuple[str, str]) -> None:
    name, mime, data = LYING[key]
    stored, bodies = [], []
    for address in servers:
        answer = put(address, key, name, mime, data).json()
        read = request("GET", address, f"/1,{key}aaaaaaaa")
        assert read.headers["Etag"] == f'"{answer.pop("eTag")}"'
        stored.append(answer)
        bodies.append(read.body)
    assert stored[1] == stored[0]
    assert (bodies[1] == data) == (bodies[0] == data)
    if bodies[1] != data:
        _compare(*bodies)
        assert not decode(bodies[1]).getexif()
