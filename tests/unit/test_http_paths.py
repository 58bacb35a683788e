"""Request targets, path forms and query decoding (http.md 1.1, 2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.errors import FormatError
from volumed.formats.fileid import parse_key_cookie, parse_volume_id
from volumed.http.text.paths import (
    ParsedPath,
    decode_path,
    normalised_path,
    parse_read_path,
    parse_write_path,
    split_target,
)
from volumed.http.text.query import go_bool, parse_form, parse_query

READ_FORMS = [
    ("/3,0137d6", ParsedPath("3", "0137d6")),
    ("/3,0137d6.jpg", ParsedPath("3", "0137d6", "", ".jpg")),
    ("/3,0137d6.tar.gz", ParsedPath("3", "0137d6.tar", "", ".gz")),
    ("/1,2,0137d6", ParsedPath("1,2", "0137d6")),
    ("/,0137d6", ParsedPath("", "0137d6")),
    ("/3,", ParsedPath("3", "")),
    ("/3,.a", ParsedPath("3", "", "", ".a")),
    ("/3/0137d6", ParsedPath("3", "0137d6")),
    ("/3/0137d6.jpg", ParsedPath("3", "0137d6", "", ".jpg")),
    ("/3/.jpg", ParsedPath("3", ".jpg")),
    ("/3/0137d6/a.b.png", ParsedPath("3", "0137d6", "a.b.png", ".png")),
    ("/3/0137d6/", ParsedPath("3", "0137d6")),
    ("/3/0137d6/noext", ParsedPath("3", "0137d6", "noext")),
    ("/x", ParsedPath("x")),
    ("/", ParsedPath("")),
    ("/a/b/c/x", ParsedPath("x")),
    ("/a,b/c/d/x", ParsedPath("x")),
]


@pytest.mark.parametrize(("path", "parsed"), READ_FORMS)
def test_read_forms(path: str, parsed: ParsedPath) -> None:
    assert parse_read_path(path) == parsed


@pytest.mark.parametrize("path", ["/a/b/c/1,0137d6", "/1.5,0137d6", "/.1,0137d6"])
def test_paths_that_crash_the_reference_have_no_error_text(path: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_read_path(path)
    assert caught.value.text == ""


@pytest.mark.parametrize(
    ("path", "fid"),
    [
        ("/1,0111111111", "0111111111"),
        ("/1,0111111111.png", "0111111111"),
        ("/1,0111111111.a.b", "0111111111.a"),
        ("/1.2/3,01", "01"),
        ("/1/0111111111", "/1/0111111111"),
        ("/1/01111.11111", "/1/01111"),
        ("/5", "/5"),
        ("/5,", ""),
    ],
)
def test_write_path(path: str, fid: str) -> None:
    assert parse_write_path(path) == fid


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        (b"/1,01", None),
        (b"/", None),
        (b"/a/", None),
        (b"/a/..b", None),
        (b"/a/.b", None),
        (b"/%2F1,01", None),
        (b"/a/%2e%2e/b", None),
        (b"//1,01", b"/1,01"),
        (b"///", b"/"),
        (b"/./1,01", b"/1,01"),
        (b"/x/../1,01", b"/1,01"),
        (b"/..", b"/"),
        (b"/a/.", b"/a"),
        (b"/a/../", b"/"),
        (b"/a//b/", b"/a/b/"),
        (b"/a//b%2F..%2fc", b"/a/b%2F..%2fc"),
        (b"/a//b%41%7e", b"/a/b%41%7e"),
        (b"/a//b'(c)!*[x]", b"/a/b'(c)!*[x]"),
        (b"/a//<b>\"&'x", b"/a/%3Cb%3E%22&%27x"),
        (b"/a//\xff", b"/a/%FF"),
    ],
)
def test_normalised_path(raw: bytes, cleaned: bytes | None) -> None:
    assert normalised_path(raw) == cleaned


@given(st.binary(max_size=40))
def test_a_normalised_path_is_normal(raw: bytes) -> None:
    try:
        cleaned = normalised_path(b"/" + raw)
    except FormatError:
        return
    if cleaned is not None:
        assert cleaned.startswith(b"/")
        assert normalised_path(cleaned) is None


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/1,01", (b"/1,01", b"")),
        (b"/1,01?", (b"/1,01", b"")),
        (b"/1,01?a=?b", (b"/1,01", b"a=?b")),
        (b"http://host:80/1,01?x", (b"/1,01", b"x")),
        (b"http://host", (b"//", b"")),
        (b"/http://host/x", (b"/http://host/x", b"")),
    ],
)
def test_split_target(target: bytes, parts: tuple[bytes, bytes]) -> None:
    assert split_target(target) == parts


def test_decode_path() -> None:
    assert decode_path(b"/1%2C01%2Fa+b") == "/1,01/a+b"
    assert decode_path(b"/na%C3%AFve%ff") == "/naïve\udcff"


@pytest.mark.parametrize("raw", [b"/%zz", b"/%", b"/a%4", b"1,01", b"*"])
def test_bad_paths_are_protocol_errors(raw: bytes) -> None:
    with pytest.raises(FormatError):
        decode_path(raw)


@given(st.text(st.sampled_from("/,._0a%\x00é\udcff"), max_size=20))
def test_only_format_errors_leave_the_parsers(path: str) -> None:
    try:
        parsed = parse_read_path("/" + path)
        parse_volume_id(parsed.vid_text)
        parse_key_cookie(parsed.fid_text)
        parse_key_cookie(parse_write_path("/" + path))
    except FormatError:
        pass


@pytest.mark.parametrize(
    ("raw", "form"),
    [
        (b"", {}),
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a=1&a=2", {"a": "1"}),
        (b"a=x+y%20z%2B", {"a": "x y z+"}),
        (b"a=1,2&&b", {"a": "1,2", "b": ""}),
        (b"%74s=5&=v&a=b=c", {"ts": "5", "": "v", "a": "b=c"}),
        (b"n=%C3%AF%ff", {"n": "ï\udcff"}),
    ],
)
def test_query(raw: bytes, form: dict[str, str]) -> None:
    assert parse_query(raw) == form
    assert parse_form(raw) == form


@pytest.mark.parametrize(
    ("raw", "kept", "text"),
    [
        (b"a=%zz&b=1", {"b": "1"}, 'invalid URL escape "%zz"'),
        (b"a=%", {}, 'invalid URL escape "%"'),
        (b"a=%z", {}, 'invalid URL escape "%z"'),
        (b"a=%1zq", {}, 'invalid URL escape "%1z"'),
        (b"a=%\xc3\xa91", {}, 'invalid URL escape "%é"'),
        (b'a=%"<', {}, 'invalid URL escape "%\\"<"'),
        (b"%yy=1&a=%zz", {}, 'invalid URL escape "%yy"'),
        (b"a;b&c=1", {"c": "1"}, "invalid semicolon separator in query"),
        (b"a=%zz&b;c", {}, "invalid semicolon separator in query"),
    ],
)
def test_malformed_pairs_are_left_out_of_reads_and_refused_in_writes(
    raw: bytes, kept: dict[str, str], text: str
) -> None:
    assert parse_query(raw) == kept
    with pytest.raises(FormatError) as caught:
        parse_form(raw)
    assert caught.value.text == text


@given(st.binary(max_size=60))
def test_queries_raise_nothing_undeclared(raw: bytes) -> None:
    kept = parse_query(raw)
    try:
        assert parse_form(raw) == kept
    except FormatError as error:
        assert error.text.startswith("invalid ")  # noqa: PT017


def test_go_bool() -> None:
    assert all(map(go_bool, ("1", "t", "T", "TRUE", "true", "True")))
    assert not any(map(go_bool, ("", "0", "f", "false", "yes", "tRUE", " true", "2")))
