"""File names, dispositions, media types, types by extension and by content (http.md 3.6, 4.2, appendices)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.errors import FormatError
from volumed.http.text.disposition import base_name, content_disposition, raw_upload_name
from volumed.http.text.mediatype import parse_media_type
from volumed.http.text.mime import extension, mime_by_extension
from volumed.http.text.sniff import sniff


@pytest.mark.parametrize(
    ("filename", "value"),
    [
        (b"a.png", b"inline; filename=a.png"),
        (b"..", b"inline; filename=.."),
        (b"{}|^`!#$&+~.txt", b"inline; filename={}|^`!#$&+~.txt"),
        (b"a b.txt", b'inline; filename="a b.txt"'),
        (b"1,0111111111", b'inline; filename="1,0111111111"'),
        (b"tab\tx", b'inline; filename="tab\tx"'),
        (b'"\\', b'inline; filename="\\"\\\\"'),
        ("naïve.txt".encode(), b"inline; filename*=utf-8''na%C3%AFve.txt"),
        (b"a\xff", b"inline; filename*=utf-8''a%FF"),
        (b"\x01 *'%()<>@,;:\\\"/[]?=\x7f", b"inline; filename*=utf-8''%01%20%2A%27%25"
         b"%28%29%3C%3E%40%2C%3B%3A%5C%22%2F%5B%5D%3F%3D%7F"),
    ],
)
def test_written_disposition(filename: bytes, value: bytes) -> None:
    assert content_disposition(filename) == value
    assert content_disposition(filename, True) == value.replace(b"inline", b"attachment", 1)


@given(st.binary(min_size=1, max_size=30))
def test_a_written_disposition_reads_back(filename: bytes) -> None:
    value = content_disposition(filename)
    assert not set(value) & {0, 10, 13}
    kind, parameters = parse_media_type(value.decode("latin-1"))
    assert kind == "inline"
    read = parameters["filename"]
    assert read.encode("utf-8", "surrogateescape") == filename


URL_NAME = "1,0111111111"
READ_DISPOSITIONS = [
    (None, URL_NAME),
    ("", URL_NAME),
    ('attachment; filename="a.txt"', "a.txt"),
    ("inline; filename=a.txt", "a.txt"),
    ('filename="a.txt"', "a.txt"),
    ('name="b.txt"', "b.txt"),
    ('attachment; name="q"', "q"),
    ('form-data; name="b"; filename="c.txt"', URL_NAME),
    ("attachment; filename*=utf-8''x.txt", URL_NAME),
    ("attachment; filename*=utf-8''na%C3%AFve.txt; name=q", "naïve.txt"),
    ("attachment; filename*=us-ascii'en'plain.txt; name=x", "plain.txt"),
    ("attachment; filename*=iso-8859-1''na%EFve.txt; name=x", "x"),
    ("attachment; filename*=utf-8'plain.txt; name=x", "x"),
    ("attachment; filename*=UTF-8''a%zz; name=c", "c"),
    ("attachment; name*=utf-8''c; name=d", "c"),
    ("attachment; filename=\"x\"; filename*=utf-8''y; name=z", "y"),
    ("attachment; filename*0*=utf-8''foo%20; filename*1=bar.txt; name=x", "foo bar.txt"),
    ("attachment; filename*1=b; filename*0=a; name=c", "ab"),
    ("attachment; filename*1=b; name=c", "c"),
    ("attachment; filename=a b.txt", URL_NAME),
    ('attachment;filename="a\\"b.txt"', 'a"b.txt'),
    ('attachment;filename="a\\b.txt"', "a\\b.txt"),
    ('Attachment; filename="x.txt"', URL_NAME),
    ("attachment; filename=x; filename=y", URL_NAME),
    ('attachment; filename="x"; filename="x"', "x"),
    ('attachment; filename="x.txt', URL_NAME),
    ('attachment; filename="x\\"', URL_NAME),
    ("attachment; filename=", URL_NAME),
    ('attachment; filename=""; name="n"', URL_NAME),
    ('attachment; FILENAME="up.txt"', URL_NAME),
    ('attachment; filename="x.txt"; ', "x.txt"),
    ('attachment; filename="x.txt"; foo', URL_NAME),
    ("inlinefoo; name=z", "z"),
    ("attachment name=z", URL_NAME),
    ('attachment; filename="naïve"', "naïve"),
    ("attachment; filename=naïve", URL_NAME),
    ("; name=x", URL_NAME),
]


@pytest.mark.parametrize(("value", "name"), READ_DISPOSITIONS)
def test_name_of_a_raw_upload(value: str | None, name: str) -> None:
    raw = None if value is None else value.encode()
    assert raw_upload_name(raw, "/" + URL_NAME) == name


@given(st.binary(max_size=60))
def test_any_disposition_gives_a_name(raw: bytes) -> None:
    assert isinstance(raw_upload_name(b"name=" + raw, "/1,01"), str)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("", ""), ("a", "a"), ("/", "/"), ("\\", "/"), ("x/", "x"), ("a/b", "b"), ("C:\\x\\y.txt", "y.txt"),
        ("..", ".."), (".", "."), ("a\\\\b", "b"),
    ],
)  # fmt: skip
def test_base_name(name: str, base: str) -> None:
    assert base_name(name) == base


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "mime: no media type"),
        ("/b", "mime: no media type"),
        ("é/x", "mime: no media type"),
        ("foo bar", "mime: expected slash after first token"),
        ("a/", "mime: expected token after slash"),
        ("a/b c", "mime: unexpected content after media subtype"),
        ("a/b; x", "mime: invalid media parameter"),
        ("a/b; x=é", "mime: invalid media parameter"),
        ("a/b; x=1; x=2", "mime: duplicate parameter name"),
    ],
)
def test_media_type_errors(text: str, error: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_media_type(text)
    assert caught.value.text == error


def test_a_media_type_is_not_as_long_as_a_head_may_be() -> None:
    fits = "a/b" + "".join(f"; p{number}=1" for number in range(5000))
    assert len(parse_media_type(fits)[1]) == 5000
    with pytest.raises(FormatError, match="mime: invalid media parameter"):
        parse_media_type(fits + ' ; q="' + "x" * (64 << 10) + '"')


def test_media_type() -> None:
    assert parse_media_type("a") == ("a", {})
    assert parse_media_type("A/B ; X = y;Z=\"q\\\"'\" ; ") == ("a/b", {"x": "y", "z": "q\"'"})


@given(st.text(max_size=60))
def test_media_types_raise_nothing_undeclared(text: str) -> None:
    try:
        parse_media_type("a/b;" + text)
    except FormatError as error:
        assert error.text.startswith("mime: ")  # noqa: PT017


@pytest.mark.parametrize(
    ("ext", "kind"),
    [
        (".txt", "text/plain; charset=utf-8"),
        (".TXT", "text/plain; charset=utf-8"),
        (".c++", "text/x-c++; charset=utf-8"),
        (".js", "application/javascript"),
        (".svg", "image/svg+xml"),
        (".docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (".bin", "application/octet-stream"),
        (".woff2", "font/woff2"),
        (".xml", "application/xml"),
        (".xsl", "text/xml; charset=utf-8"),
        (".nosuch", ""),
        ("txt", ""),
        ("", ""),
        (".", ""),
    ],
)
def test_mime_by_extension(ext: str, kind: str) -> None:
    assert mime_by_extension(ext) == kind


def test_extension() -> None:
    assert [extension(name) for name in ("a.tar.gz", ".x", "a.", "a")] == [".gz", ".x", ".", ""]


HTML = b"text/html; charset=utf-8"
TEXT = b"text/plain; charset=utf-8"
BINARY = b"application/octet-stream"
CONTENTS = [
    (b"", TEXT),
    (b"hello\r\n\t\x1b", TEXT),
    (b"caf\xe9", TEXT),
    (b"\x00", BINARY),
    (b"a\x08", BINARY),
    (b"a\x0b", BINARY),
    (b"a\x1a", BINARY),
    (b"a\x1c", BINARY),
    (b"a" * 512 + b"\x00", TEXT),
    *((tag + b" ", HTML) for tag in (
        b"<!DOCTYPE HTML", b"<HTML", b"<HEAD", b"<SCRIPT", b"<IFRAME", b"<H1", b"<DIV", b"<FONT", b"<TABLE", b"<A",
        b"<STYLE", b"<TITLE", b"<B", b"<BODY", b"<BR", b"<P", b"<!--",
    )),
    (b" \t\r\n\x0c<html>", HTML),
    (b"<!doctype Html>", HTML),
    (b"<html", TEXT),
    (b"<htmlx>", TEXT),
    (b"\x0b<html>", BINARY),
    (b"<!--x", TEXT),
    (b"\n<?xml version", b"text/xml; charset=utf-8"),
    (b"<?XML ", TEXT),
    (b"%PDF-1", b"application/pdf"),
    (b" %PDF-1", TEXT),
    (b"%!PS-Adobe-3", b"application/postscript"),
    (b"\xfe\xffab", b"text/plain; charset=utf-16be"),
    (b"\xff\xfeab", b"text/plain; charset=utf-16le"),
    (b"\xff\xfea", TEXT),
    (b"\xef\xbb\xbfa", TEXT),
    (b"\xef\xbb\xbf\x00", TEXT),
    (b"\xef\xbb\xbf", TEXT),
    (b"\x00\x00\x01\x00", b"image/x-icon"),
    (b"\x00\x00\x02\x00", b"image/x-icon"),
    (b"BM", b"image/bmp"),
    (b"GIF87a", b"image/gif"),
    (b"GIF89a", b"image/gif"),
    (b"RIFF\n\n\n\nWEBPVP", b"image/webp"),
    (b"\x89PNG\r\n\x1a\n", b"image/png"),
    (b"\xff\xd8\xff", b"image/jpeg"),
    (b"FORM1234AIFF", b"audio/aiff"),
    (b"ID3", b"audio/mpeg"),
    (b"OggS\x00", b"application/ogg"),
    (b"MThd\x00\x00\x00\x06", b"audio/midi"),
    (b"RIFF1234AVI ", b"video/avi"),
    (b"RIFF1234WAVE", b"audio/wave"),
    (b"\x00\x00\x00\x18ftypmp42....isomiso2", b"video/mp4"),
    (b"\x00\x00\x00\x18ftypisom....isommp41", b"video/mp4"),
    (b"\x00\x00\x00\x14ftypisommp42isom", BINARY),
    (b"\x00\x00\x00\x18ftypmp42", BINARY),
    (b"\x00\x00\x00\x17ftypmp42....isomiso2", BINARY),
    (b"\x1a\x45\xdf\xa3", b"video/webm"),
    (b"\x00" * 34 + b"LP", b"application/vnd.ms-fontobject"),
    (b"x" * 34 + b"LP", b"application/vnd.ms-fontobject"),
    (b"\x00\x01\x00\x00", b"font/ttf"),
    (b"OTTO", b"font/otf"),
    (b"ttcf", b"font/collection"),
    (b"wOFF", b"font/woff"),
    (b"wOF2", b"font/woff2"),
    (b"\x1f\x8b\x08", b"application/x-gzip"),
    (b"PK\x03\x04", b"application/zip"),
    (b"Rar!\x1a\x07\x00", b"application/x-rar-compressed"),
    (b"Rar!\x1a\x07\x01\x00", b"application/x-rar-compressed"),
    (b"Rar!\x1a\x07\x02\x00", BINARY),
    (b"\x00asm", b"application/wasm"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind"), CONTENTS)
def test_sniff(body: bytes, kind: bytes) -> None:
    assert sniff(body) == kind
    assert sniff(memoryview(body)) == kind
