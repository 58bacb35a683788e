"""Quoted-printable data of form parts (http.md 4.2)."""

import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.errors import FormatError
from volumed.http.text.quotedprintable import decode_quoted_printable


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [
        (b"", b""),
        (b"a=3Db\r\nc", b"a=b\r\nc"),
        (b"=c3=AF", b"\xc3\xaf"),
        (b"a=\r\nb=\nc", b"abc"),
        (b"a \t\r\nb \nc ", b"a\r\nb\nc"),
        (b"a= \r\nb", b"ab"),
        (b"a=", b"a"),
        (b"a=4", b"a=4"),
        (b"a=zz=41", b"a=zzA"),
        (b"a\rb", b"a\rb"),
        (b"\x80\xff", b"\x80\xff"),
    ],
)
def test_decoding(encoded: bytes, decoded: bytes) -> None:
    assert decode_quoted_printable(encoded) == decoded


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        (b"a\x01", "quotedprintable: invalid unescaped byte 0x01 in body"),
        (b"a\n=", 'quotedprintable: invalid bytes after =: ""'),
    ],
)
def test_errors(encoded: bytes, text: str) -> None:
    with pytest.raises(FormatError) as caught:
        decode_quoted_printable(encoded)
    assert caught.value.text == text


@given(st.binary(max_size=300))
def test_what_was_encoded_comes_back(data: bytes) -> None:
    assert decode_quoted_printable(binascii.b2a_qp(data, istext=False)) == data
