"""Form uploads (http.md 4.2): every framing the reference accepts or refuses, with its words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.errors import ClientError, FormatError, SizeLimitExceeded
from volumed.http.rules.multipart import FormFile, parse_form_data

TYPE = b"multipart/form-data; boundary=XX"
FILE = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
FIELD = b'--XX\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
END = b"--XX--\r\n"


def parse(body: bytes, content_type: bytes = TYPE, limit: int = 1 << 20) -> FormFile:
    return parse_form_data(content_type, body, limit)


def field(name: bytes, value: bytes) -> bytes:
    return FIELD % (name, value)


ACCEPTED = [
    (FILE + b"\r\nhello\r\n--XX--\r\n", b"hello", "a.bin"),
    (FILE + b"\r\nhello\r\n--XX--", b"hello", "a.bin"),
    (FILE + b"\r\nhello\r\n--XX", b"hello", "a.bin"),
    (FILE + b"\r\nhello\r\n--XX\r\n", b"hello", "a.bin"),
    (FILE + b"\r\nhello\r\n--XX--\r\nepilogue", b"hello", "a.bin"),
    (FILE + b"\r\nhello\r\n--XX--  \r\n", b"hello", "a.bin"),
    (FILE + b"\r\nhello\r\n--XX text\r\n", b"hello", "a.bin"),
    (FILE + b"\r\nhe\r\n--XXYllo\r\n--XX--\r\n", b"he\r\n--XXYllo", "a.bin"),
    (FILE + b"\r\nhe\r\n--XX-llo\r\n--XX--\r\n", b"he\r\n--XX-llo", "a.bin"),
    (FILE + b"\r\n\r\n--XX--\r\n", b"", "a.bin"),
    (FILE + b"\r\n--XX--\r\n", b"", "a.bin"),
    (b"text before\r\n\r\n" + FILE + b"\r\nhello\r\n" + END, b"hello", "a.bin"),
    ((FILE + b"\r\nhello\r\n" + END).replace(b"\r\n", b"\n"), b"hello", "a.bin"),
    (FILE.replace(b"--XX\r\n", b"--XX \t\r\n") + b"\r\nhello\r\n" + END, b"hello", "a.bin"),
    (b"--XX\r\n\r\nhello\r\n" + END, b"hello", ""),
    (b"--XX\r\nFo o: x\r\nBar : y\r\n\r\nhello\r\n" + END, b"hello", ""),
    (b"--XX\r\nContent-Disposition: form-data;\r\n filename=z.bin\r\n\r\nhello\r\n" + END, b"hello", "z.bin"),
    (b"--XX\r\nContent-Disposition: attachment; filename=z.c\r\n\r\nhello\r\n" + END, b"hello", "z.c"),
    (b"--XX\r\nContent-Disposition: form-data; filename*=utf-8''%C3%AF\r\n\r\nx\r\n" + END, b"x", "ï"),
    (b'--XX\r\nContent-Disposition: form-data; filename="\xc3\xaf\xff"\r\n\r\nx\r\n' + END, b"x", "ï\udcff"),
    (b"--XX\r\nContent-Disposition: x; y\r\n\r\nhello\r\n" + END, b"hello", ""),
    (FILE + b"Content-Transfer-Encoding: Quoted-Printable\r\n\r\nhe=41llo=\r\nx\r\n" + END, b"heAllox", "a.bin"),
    (field(b"other", b"1234") + FILE + b"\r\nhello\r\n" + END, b"hello", "a.bin"),
    (FILE + b"\r\nhello\r\n" + FILE.replace(b"a.bin", b"b.bin") + b"\r\nother\r\n" + END, b"hello", "a.bin"),
    (FILE + b"\r\nhello\r\n" + FILE + b"\r\ntruncated", b"hello", "a.bin"),
    (field(b"a", b"A") + field(b"b", b"B") + END, b"A", ""),
    (field(b"a", b"A") + b"--XX\r\nbad\r\n\r\n\r\n" + END, b"A", ""),
    (field(b"a", b"A") + b"--XX\r\nContent-Disp", b"A", ""),
    (field(b"a", b"A") + END + FILE + b"\r\nhello\r\n" + END, b"A", ""),
    (FILE + b"A: " + b"x" * 5000 + b"\r\n\r\nhello\r\n" + END, b"hello", "a.bin"),
]


@pytest.mark.parametrize(("body", "data", "filename"), ACCEPTED)
def test_accepted(body: bytes, data: bytes, filename: str) -> None:
    file = parse(body)
    assert (bytes(file.data), file.filename) == (data, filename)


REFUSED = [
    (b"", "multipart: NextPart: EOF"),
    (b"garbage", "multipart: NextPart: EOF"),
    (b"garbage\r\n", "multipart: NextPart: EOF"),
    (b"--XX", "multipart: NextPart: EOF"),
    (b"x" * 4096, "multipart: NextPart: EOF"),
    (b"x" * 4095 + b"\n", "multipart: NextPart: EOF"),
    (b"x" * 4097, "multipart: NextPart: bufio: buffer full"),
    (b"x" * 4096 + b"\n", "multipart: NextPart: bufio: buffer full"),
    (b"--XX--\r\n", "EOF"),
    (b"--XX--", "EOF"),
    (b"--XX\r\n", "EOF"),
    (b"--XX\r\nContent-Disposition: form-da", "EOF"),
    (b'--XX\r\nContent-Disposition: form-data; name="x"\r\n', "EOF"),
    (b'--XX\r\nContent-Disposition: form-data; name="x"\r\n\r\n', "unexpected EOF"),
    (FILE + b"\r\nhello", "unexpected EOF"),
    (FILE + b"\r\nhello\r\n", "unexpected EOF"),
    (FILE + b"\r\nhello\r\n--X", "unexpected EOF"),
    (FILE + b"\r\nhello\r\n--XX-", "unexpected EOF"),
    (field(b"ts", b"1") + FILE + b"\r\nhello", "unexpected EOF"),
    (b"--XX\r\nnocolon\r\n\r\nx\r\n" + END, 'malformed MIME header: missing colon: "nocolon"'),
    (b"--XX\r\nA: b\r\nfoo\r\n more\r\n\r\nx\r\n" + END, 'malformed MIME header: missing colon: "foo"'),
    (b"--XX\r\nfoo  \t\r\n\r\nx\r\n" + END, 'malformed MIME header: missing colon: "foo  \\t"'),
    (b'--XX\r\nfo"\xff\x01o\r\n\r\nx\r\n' + END, 'malformed MIME header: missing colon: "fo\\"\\xff\\x01o"'),
    (b"--XX\r\n Foo: x\r\n\r\nx\r\n" + END, 'malformed MIME header initial line: " Foo: x"'),
    (b"--XX\r\n\tA: b\r\n\r\nx\r\n" + END, 'malformed MIME header initial line: "\\tA: b"'),
    (b"--XX\r\n: x\r\n\r\nx\r\n" + END, 'malformed MIME header line: ": x"'),
    (b"--XX\r\nFoo: a\x00b\r\n\r\nx\r\n" + END, 'malformed MIME header line: "Foo: a\\x00b"'),
    (b"--XX\r\nFo\xff: a\xffb\r\n\r\nx\r\n" + END, 'malformed MIME header line: "Fo\\xff: a\\xffb"'),
    (b"--XX\r\nFoo: a\rb\r\n\r\nx\r\n" + END, 'malformed MIME header line: "Foo: a\\rb"'),
    (b"--XX\r\nFoo: x\r", 'malformed MIME header line: "Foo: x\\r"'),
    (FILE + b"A: x\r\n" * 10_001 + b"\r\nhello\r\n" + END, "multipart: message too large"),
    (FILE + b"A: " + b"x" * (1 << 16) + b"\r\n\r\nhello\r\n" + END, "multipart: message too large"),
]


@pytest.mark.parametrize(("body", "text"), REFUSED)
def test_refused(body: bytes, text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(body)
    assert caught.value.text == text


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        (b"", "request Content-Type isn't multipart/form-data"),
        (b"form-data", "request Content-Type isn't multipart/form-data"),
        (b"text/form-data; boundary=XX", "request Content-Type isn't multipart/form-data"),
        (b"multipart/form-data; boundary", "request Content-Type isn't multipart/form-data"),
        (b"multipart/form-data", "no multipart boundary param in Content-Type"),
        (b'multipart/form-data; boundary=""', "multipart: boundary is empty"),
    ],
)
def test_refused_types(content_type: bytes, text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(FILE + b"\r\nhello\r\n" + END, content_type)
    assert caught.value.text == text


@pytest.mark.parametrize(
    "content_type",
    [b"Multipart/Form-Data; Boundary=XX", b'multipart/mixed; boundary="XX"; x=form-data', TYPE + b"; charset=utf-8"],
)
def test_accepted_types(content_type: bytes) -> None:
    assert bytes(parse(FILE + b"\r\nhello\r\n" + END, content_type).data) == b"hello"


def test_the_chosen_part_brings_its_headers() -> None:
    first = b"--XX\r\nContent-Type: a/b\r\nContent-Encoding: gzip\r\n\r\nA\r\n"
    file = parse(first + FILE + b"content-TYPE:  x/y \r\nContent-Type: z/z\r\n\r\nB\r\n" + END)
    assert file.headers[b"content-type"] == b"x/y"
    assert b"content-encoding" not in file.headers


def test_text_fields_before_and_behind_the_file_are_honoured() -> None:
    before = field(b"ts", b"5") + field(b"secret", b"x")
    behind = field(b"ts", b"6") + field(b"ttl", b"3h") + field(b"cm", b"true")
    assert parse(before + FILE + b"\r\nhello\r\n" + behind + END).fields == {"ts": "5", "ttl": "3h", "cm": "true"}


def test_files_and_long_texts_are_no_fields() -> None:
    file_named_ts = b'--XX\r\nContent-Disposition: form-data; name="ts"; filename="f"\r\n\r\n5\r\n'
    assert parse(file_named_ts + field(b"ttl", b"3" * 2000) + END).fields == {}


def test_size_limit() -> None:
    assert len(parse(FILE + b"\r\n12345\r\n" + END, limit=5).data) == 5
    for tail in (b"\r\n" + END, b""):
        with pytest.raises(SizeLimitExceeded) as caught:
            parse(FILE + b"\r\n123456" + tail, limit=5)
        assert caught.value.text == "file over the limited 5 bytes"


def test_too_many_parts_end_the_search_for_a_file() -> None:
    file = parse(field(b"a", b"A") * 1000 + FILE + b"\r\nhello\r\n" + END)
    assert (bytes(file.data), file.filename) == (b"A", "")


def test_what_only_looks_like_boundaries_has_a_limit() -> None:
    data = b"\r\n--XXY" * 100_000
    assert bytes(parse(FILE + b"\r\n" + data + b"\r\n" + END).data) == data
    with pytest.raises(FormatError) as caught:
        parse(FILE + b"\r\n" + data + b"\r\n--XXY\r\n" + END)
    assert caught.value.text == "multipart: message too large"


@pytest.mark.parametrize("shift", range(-12, 4))
def test_a_boundary_across_search_windows_is_found(shift: int) -> None:
    data = b"\r\n--XXY" + bytes((256 << 10) - 8 + shift)
    file = parse(FILE + b"\r\n" + data + b"\r\n" + field(b"ts", b"7") + END)
    assert bytes(file.data) == data
    assert file.fields == {"ts": "7"}


def test_data_are_a_slice_of_the_body() -> None:
    body = bytearray(FILE + b"\r\nhello\r\n" + END)
    file = parse_form_data(TYPE, memoryview(body), 100)
    body[body.index(b"hello")] = ord("j")
    assert bytes(file.data) == b"jello"


PIECE = st.sampled_from([
    b"--XX", b"--XX--", b"\r\n", b"\n", b"\r", b"-", b" ", b":", b"A: b", b"Content-Disposition: form-data; ",
    b"filename=", b'"', b"name=ts", b"hello", b"\x00", b"\xff",
])  # fmt: skip


@given(st.lists(PIECE, max_size=30).map(b"".join))
def test_only_declared_errors_leave_the_parser(body: bytes) -> None:
    for start in (b"", b"--XX\r\n", FILE + b"\r\n"):
        try:
            parse(start + body)
        except ClientError as error:
            assert error.text  # noqa: PT017


@given(st.binary(max_size=200).filter(lambda data: b"\n--XX" not in data and not data.startswith(b"--XX")))
def test_any_data_come_back(data: bytes) -> None:
    assert bytes(parse(field(b"a", b"b") + FILE + b"\r\n" + data + b"\r\n" + END).data) == data
