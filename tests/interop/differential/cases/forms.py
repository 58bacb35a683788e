"""Uploads as forms: multipart and urlencoded (http.md 4.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.interop.differential.kit import TEXT, TS, Case, fid, form, get, parts, post, put, zipped

FILE = 'Content-Disposition: form-data; name="file"; filename="{}"'
FIELD = 'Content-Disposition: form-data; name="{}"'
MULTIPART = "Content-Type: multipart/form-data; boundary=b"
URLENCODED = "Content-Type: application/x-www-form-urlencoded"
NAMES = (
    "a.css", "a b.css", "a/b.css", r"a\\b.css", r"C:\\dir\\b.css", "/", "..", ".", "a/", ".css", "p.PNG",
    "na\u00efve.css", "a%20b.css", r"quo\"te.css", "", "a.b.css", "trailing.", "noext", "p.unknown", "p.json",
    "a" * 300,
)  # fmt: skip
RAW_BODIES = {
    "nothing": b"", "no form": b"x", "a boundary alone": b"--b", "a boundary line": b"--b\r\n",
    "closing first": b"--b--\r\n", "closing first, no line end": b"--b--", "ends in the headers": b"--b\r\nA: b",
    "ends after the headers": b"--b\r\nA: b\r\n\r\n", "ends in the data": b"--b\r\nA: b\r\n\r\nx",
    "data and a boundary": b"--b\r\nA: b\r\n\r\nx\r\n--b",
    "data and a boundary line": b"--b\r\nA: b\r\n\r\nx\r\n--b\r\n",
    "no closing line end": b"--b\r\nA: b\r\n\r\nx\r\n--b--",
    "something behind": b"--b\r\nA: b\r\n\r\nx\r\n--b--\r\nmore",
    "something before": b"preamble\r\n--b\r\nA: b\r\n\r\nx\r\n--b--\r\n",
    "line feeds alone": b"--b\nA: b\n\nx\n--b--\n", "mixed line ends": b"--b\r\nA: b\n\nx\r\n--b--\r\n",
    "blanks behind the boundary": b"--b \t\r\nA: b\r\n\r\nx\r\n--b--\r\n", "no headers": b"--b\r\n\r\nx\r\n--b--\r\n",
    "empty data": b"--b\r\nA: b\r\n\r\n\r\n--b--\r\n",
    "boundary as data": b"--b\r\nA: b\r\n\r\nx--b\r\n--bx\r\n--b--\r\n",
    "another boundary": b"--c\r\nA: b\r\n\r\nx\r\n--c--\r\n",
    "header without a colon": b"--b\r\nnonsense\r\n\r\nx\r\n--b--\r\n",
    "header starts with a blank": b"--b\r\n A: b\r\n\r\nx\r\n--b--\r\n",
    "header with a bad name": b"--b\r\nA b: c\r\n\r\nx\r\n--b--\r\n",
    "folded header": b"--b\r\nA: b\r\n c\r\n\r\nx\r\n--b--\r\n",
    "empty header name": b"--b\r\n: c\r\n\r\nx\r\n--b--\r\n",
    "control character in a header": b"--b\r\nA: b\x01\r\n\r\nx\r\n--b--\r\n",
    "header above 7e": b"--b\r\nA: \xff\r\n\r\nx\r\n--b--\r\n",
    "second part is broken": b"--b\r\nA: b\r\n\r\nx\r\n--b\r\nnonsense\r\n\r\ny\r\n--b--\r\n",
    "second part is cut off": b"--b\r\nA: b\r\n\r\nx\r\n--b\r\nA: b\r\n\r\ny",
    "a line of 4096 bytes first": b"y" * 4094 + b"\r\n--b\r\n\r\nx\r\n--b--\r\n",
    "a line of 5000 bytes first": b"y" * 5000 + b"\r\n--b\r\n\r\nx\r\n--b--\r\n",
    "10001 header lines": b"--b\r\n" + b"A: b\r\n" * 10_001 + b"\r\nx\r\n--b--\r\n",
    "70 KiB of headers": b"--b\r\nA: " + b"b" * 70_000 + b"\r\n\r\nx\r\n--b--\r\n",
}  # fmt: skip
CONTENT_TYPES = (
    "multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="b"',
    "multipart/form-data; boundary=b; x=y", "Multipart/Form-Data; boundary=b", "application/form-data; boundary=b",
    "x/form-data", "multipart/mixed; x=form-data; boundary=b", "multipart/form-data; boundary=c",
    'multipart/form-data; boundary="b c"', "multipart/form-data; boundary",
    "multipart/form-data; boundary=" + "b" * 80, "form-data",
)  # fmt: skip
URLENCODED_BODIES = {
    "fields": b"ts=5&x=y", "nothing": b"", "a bad escape": b"a=%zz", "a semicolon": b"a;b", "half an escape": b"%",
    "plain text": b"hello", "cm": b"cm=true", "10000 fields": b"&".join([b"a"] * 10_000),
    "10001 fields": b"&".join([b"a"] * 10_001),
}  # fmt: skip


def read_too(target: str, case: Case) -> Iterator[Case]:
    yield case
    yield get(f"{case.name}, stored", target)._replace(zipped=case.zipped)


def named(key: int, name: str) -> Iterator[Case]:
    yield from read_too(fid(key), form(f"name {name[:20]}", f"{fid(key)}?{TS}", [FILE.format(name)], b"\x00x"))


def bare(key: int, name: str, body: bytes) -> Iterator[Case]:
    yield from read_too(fid(key), post(name, f"{fid(key)}?{TS}", body, MULTIPART))


def several(key: int, name: str, *content: tuple[list[str], bytes], query: str = "") -> Iterator[Case]:
    yield from read_too(fid(key), parts(name, f"{fid(key)}?{query or TS}", *content))


CASES = [
    *[case for number, name in enumerate(NAMES) for case in named(0x0D00 + number, name)],
    *[case for number, name in enumerate(RAW_BODIES) for case in bare(0x0D20 + number, name, RAW_BODIES[name])],
    *[
        post(
            f"type {value[:45]}",
            f"{fid(0x0D50 + number)}?{TS}",
            b"--b\r\nA: b\r\n\r\nx\r\n--b--\r\n",
            f"Content-Type: {value}",
        )
        for number, value in enumerate(CONTENT_TYPES)
    ],
    post("no type", fid(0x0D60), b"--b\r\nA: b\r\n\r\nx\r\n--b--\r\n"),
    post("empty type", fid(0x0D60), b"x", "Content-Type:"),
    # types of parts
    *[
        case
        for number, (name, mime) in enumerate(
            [
                ("a.css", "text/css; charset=utf-8"),
                ("a.css", "text/css"),
                ("a.css", "application/octet-stream"),
                ("a.bin", "application/octet-stream"),
                ("a.bin", "a/b"),
                ("a", "image/png"),
                ("p.PNG", "application/octet-stream"),
                ("a.css", "nonsense"),
                ("a", "x/" + "y" * 254),
                ("", "a/b"),
            ]
        )
        for case in read_too(
            fid(0x0D70 + number),
            form(
                f"type {mime[:20]} of {name!r}",
                f"{fid(0x0D70 + number)}?{TS}",
                [FILE.format(name), f"Content-Type: {mime}"],
                b"\x00",
            ),
        )
    ],
    # which part
    *several(0x0D80, "two files", ([FILE.format("a.css")], b"one"), ([FILE.format("b.js")], b"two")),
    *several(
        0x0D81,
        "a field, then a file",
        ([FIELD.format("x")], b"one"),
        ([FILE.format("b.css"), "Content-Type: a/b"], b"two"),
    ),
    *several(0x0D82, "fields alone", ([FIELD.format("x")], b"one"), ([FIELD.format("y")], b"two")),
    *several(0x0D83, "a file, then a field", ([FILE.format("a.css")], b"one"), ([FIELD.format("y")], b"two")),
    *several(
        0x0D84,
        "two fields, two files",
        ([FIELD.format("x")], b"1"),
        ([FIELD.format("y")], b"2"),
        ([FILE.format("a.css")], b"3"),
        ([FILE.format("b.css")], b"4"),
    ),
    *several(0x0D85, "a part that is no form-data", (['Content-Disposition: attachment; filename="a.css"'], b"x")),
    *several(0x0D86, "a bad disposition", (["Content-Disposition: form-data; name=a b; filename=c"], b"x")),
    *several(0x0D87, "no disposition", (["Content-Type: text/css"], b"x")),
    *several(
        0x0D88, "an extended name", (["Content-Disposition: form-data; name=f; filename*=utf-8''na%C3%AFve.css"], b"x")
    ),
    *several(0x0D89, "an empty file", ([FILE.format("a.css")], b"")),
    *several(
        0x0D8A,
        "fields of the query as parts",
        ([FILE.format("a.css")], b"x"),
        ([FIELD.format("ts")], b"1600000000"),
        query="x=y",
    ),
    # encodings of parts
    *several(
        0x0D90,
        "quoted-printable",
        ([FILE.format("a.css"), "Content-Transfer-Encoding: quoted-printable"], b"a=3Db=\r\nc =\r\n d  \r\ne"),
    ),
    *several(
        0x0D91,
        "quoted-printable in upper case",
        ([FILE.format("a.css"), "Content-Transfer-Encoding: QUOTED-PRINTABLE"], b"=41"),
    ),
    *several(
        0x0D92,
        "quoted-printable, lower-case digits",
        ([FILE.format("a.css"), "Content-Transfer-Encoding: quoted-printable"], b"=c3=af"),
    ),
    *several(
        0x0D93,
        "quoted-printable, broken",
        ([FILE.format("a.css"), "Content-Transfer-Encoding: quoted-printable"], b"a=zz"),
    ),
    *several(
        0x0D94,
        "quoted-printable, high bytes",
        ([FILE.format("a.css"), "Content-Transfer-Encoding: quoted-printable"], b"\xff"),
    ),
    *several(
        0x0D97,
        "quoted-printable, control character",
        ([FILE.format("a.css"), "Content-Transfer-Encoding: quoted-printable"], b"a\x01"),
    ),
    *several(
        0x0D98,
        "quoted-printable, blank in a soft break",
        ([FILE.format("a.css"), "Content-Transfer-Encoding: quoted-printable"], b"a= \r\nb"),
    ),
    *several(
        0x0D99,
        "quoted-printable, soft break at the end",
        ([FILE.format("a.css"), "Content-Transfer-Encoding: quoted-printable"], b"a="),
    ),
    *several(
        0x0D9A,
        "quoted-printable, half an escape",
        ([FILE.format("a.css"), "Content-Transfer-Encoding: quoted-printable"], b"a=4"),
    ),
    *several(
        0x0D9B,
        "quoted-printable, soft break alone",
        ([FILE.format("a.css"), "Content-Transfer-Encoding: quoted-printable"], b"a\n="),
    ),
    *several(0x0D95, "base64", ([FILE.format("a.css"), "Content-Transfer-Encoding: base64"], b"YQ==")),
    *several(0x0D96, "binary", ([FILE.format("a.css"), "Content-Transfer-Encoding: binary"], b"=41")),
    # urlencoded
    *[
        case
        for number, name in enumerate(URLENCODED_BODIES)
        for case in read_too(
            fid(0x0DA0 + number),
            post(f"urlencoded {name}", f"{fid(0x0DA0 + number)}?{TS}", URLENCODED_BODIES[name], URLENCODED),
        )
    ],
    *read_too(fid(0x0DB0), put("urlencoded, put", f"{fid(0x0DB0)}?{TS}", b"ts=5", URLENCODED)),
    *read_too(
        fid(0x0DB1), post("urlencoded with parameters", f"{fid(0x0DB1)}?{TS}", b"ts=5", f"{URLENCODED}; charset=utf-8")
    ),
    *read_too(
        fid(0x0DB2), post("urlencoded in upper case", f"{fid(0x0DB2)}?{TS}", b"ts=5", URLENCODED.replace("app", "APP"))
    ),
    post("urlencoded, error in both", f"{fid(0x0DB3)}?a=%yy", b"a=%zz", URLENCODED),
    *read_too(
        fid(0x0DB4),
        zipped(
            form(
                "text", f"{fid(0x0DB4)}?{TS}", [FILE.format("a.html"), "Content-Type: text/html"], TEXT, "Seaweed-A: b"
            )
        ),
    ),
]
