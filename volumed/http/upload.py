"""From an upload request to the fields of a needle (http.md 4.1 steps 4 and 7, 4.2 to 4.6)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from volumed.errors import FormatError, SizeLimitExceeded
from volumed.formats.checksum import crc32c
from volumed.formats.needle import (
    FLAG_CHUNK_MANIFEST,
    FLAG_GZIP,
    FLAG_LAST_MODIFIED,
    FLAG_MIME,
    FLAG_NAME,
    FLAG_PAIRS,
    FLAG_TTL,
    Buffer,
    Needle,
)
from volumed.formats.numbers import go_bytes, go_text
from volumed.formats.ttl import NO_TTL, Ttl, parse_ttl
from volumed.http.compression import gunzip, gzip_if_smaller, is_compressible
from volumed.http.disposition import base_name, raw_upload_name
from volumed.http.jsontext import encode_json
from volumed.http.mediatype import parse_media_type
from volumed.http.message import Request
from volumed.http.mime import extension, mime_by_extension
from volumed.http.multipart import parse_form_data
from volumed.http.pairs import collect_pairs
from volumed.http.query import Form, go_bool, parse_form
from volumed.http.sniff import sniff

__all__ = ["ParsedUpload", "UploadForm", "parse_upload", "parse_upload_form", "upload_result"]

_FORM_BODY_BYTES_MAX = 10 << 20
_FORM_FIELDS_MAX = 100_000
_FIELD_LENGTH_MAX = 255
_U32_MASK = 0xFFFF_FFFF
_U64_MAX = (1 << 64) - 1
_U64_DIGITS = 20
_OCTET_STREAM = "application/octet-stream"
_URLENCODED = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class UploadForm:
    """Query and form values of an upload."""

    query: Form
    """Of the URL alone."""
    values: Form
    """Query values, below those of an urlencoded body."""
    body_consumed: bool
    """The body was such a form; what is stored is empty (COMPAT)."""

    @property
    def is_replicate(self) -> bool:
        """Whether another node sends its copy: no further fan-out."""
        return self.values.get("type") == "replicate"

    @property
    def fsync(self) -> bool:
        return self.values.get("fsync") == "true"

    @property
    def pretty(self) -> bool:
        """Whether JSON answers are indented."""
        return bool(self.query.get("pretty"))


@dataclass(slots=True)
class ParsedUpload:
    """What is stored, and what is reported about it."""

    data: Buffer
    """As stored: compressed when `is_gzipped`."""
    name: bytes | None
    """None: too long for a record."""
    mime: bytes | None
    pairs: bytes
    last_modified: int
    """Seconds since 1970."""
    ttl: Ttl
    """None asked for: `NO_TTL`; the volume's own then applies."""
    is_manifest: bool
    is_gzipped: bool
    original_size: int
    """Bytes before compression."""
    content_md5: str = ""
    """Base64; only when the client supplied one."""

    def to_needle(self, key: int, cookie: int) -> Needle:
        """The needle to write, checksum included."""
        flags = FLAG_LAST_MODIFIED
        flags |= FLAG_NAME if self.name is not None else 0
        flags |= FLAG_MIME if self.mime is not None else 0
        flags |= FLAG_GZIP if self.is_gzipped else 0
        flags |= FLAG_PAIRS if self.pairs else 0
        flags |= FLAG_TTL if self.ttl else 0
        flags |= FLAG_CHUNK_MANIFEST if self.is_manifest else 0
        return Needle(
            cookie=cookie,
            key=key,
            data=self.data,
            flags=flags,
            name=self.name or b"",
            mime=self.mime or b"",
            last_modified=self.last_modified,
            ttl=self.ttl,
            pairs=self.pairs,
            checksum=crc32c(self.data),
        )


@dataclass(slots=True)
class _Content:
    """A body and what its framing says about it."""

    data: Buffer
    name: str
    mime: str
    declared_type: str
    is_gzipped: bool
    declared_md5: str
    fields: dict[str, str]


def parse_upload_form(request: Request, body: Buffer) -> UploadForm:
    """Step 4 of an upload: decode query and urlencoded body. Raises `FormatError`."""
    content_type = request.headers.get(b"content-type", b"")
    consumed = bool(content_type) and parse_media_type(go_text(content_type))[0] == _URLENCODED
    fields: Form = {}
    if consumed:
        encoded = bytes(body[: _FORM_BODY_BYTES_MAX + 1])
        if len(encoded) > _FORM_BODY_BYTES_MAX or encoded.count(b"&") >= _FORM_FIELDS_MAX:
            raise FormatError("http: POST too large")
        fields = parse_form(encoded)
    query = parse_form(request.query_string) if request.query_string else {}
    return UploadForm(query, {**query, **fields} if fields else query, consumed)


def parse_upload(
    request: Request, form: UploadForm, body: Buffer, *, now_s: int, size_limit_bytes: int
) -> ParsedUpload:
    """Step 7 of an upload. Raises `FormatError` or `SizeLimitExceeded`, both answered 400, and
    `DecompressedTooLarge` (413)."""
    content = _read_content(request, b"" if form.body_consumed else body, size_limit_bytes)
    values = {**content.fields, **form.values} if content.fields else form.values
    is_manifest = go_bool(values.get("cm", ""))
    mime = content.mime if is_manifest else _decide_mime(content)
    unzipped = gunzip(content.data) if content.is_gzipped else None
    plain = content.data if unzipped is None else unzipped
    expected_md5 = go_text(request.headers.get(b"content-md5", b"")) or content.declared_md5
    if expected_md5:
        _check_md5(expected_md5, plain)
    compressed = None
    if not content.is_gzipped and form.query.get("type") != "replicate":
        compressed = _compress(content, mime)
    return ParsedUpload(
        data=content.data if compressed is None else compressed,
        name=_storable(content.name),
        mime=_storable(mime),
        pairs=collect_pairs(request.raw_headers),
        last_modified=_timestamp(values.get("ts", "")) or now_s,
        ttl=_ttl(values.get("ttl", "")),
        is_manifest=is_manifest,
        is_gzipped=content.is_gzipped or compressed is not None,
        original_size=len(plain),
        content_md5=expected_md5,
    )


def upload_result(upload: ParsedUpload, etag: str, *, pretty: bool = False) -> bytes:
    """JSON of a 201; `etag` is unquoted. Empty fields are left out."""
    fields: dict[str, str | int] = {
        "name": go_text(upload.name or b""),
        "size": upload.original_size & _U32_MASK,
        "eTag": etag,
        "mime": go_text(upload.mime or b""),
        "contentMd5": upload.content_md5,
    }
    return encode_json({name: value for name, value in fields.items() if value}, pretty=pretty)


def _read_content(request: Request, body: Buffer, size_limit_bytes: int) -> _Content:
    content_type = request.headers.get(b"content-type", b"")
    if request.method == "POST" and (not content_type or b"form-data" in content_type):
        return _read_form_file(content_type, body, size_limit_bytes)
    if len(body) > size_limit_bytes:
        raise SizeLimitExceeded.file(size_limit_bytes)
    declared = go_text(content_type)
    return _Content(
        data=body,
        name=base_name(raw_upload_name(request.headers.get(b"content-disposition"), request.path)),
        mime=declared,
        declared_type=declared,
        is_gzipped=request.headers.get(b"content-encoding") == b"gzip",
        declared_md5="",
        fields={},
    )


def _read_form_file(content_type: bytes, body: Buffer, size_limit_bytes: int) -> _Content:
    file = parse_form_data(content_type, body, size_limit_bytes)
    return _Content(
        data=file.data,
        name=base_name(file.filename),
        mime="",
        declared_type=go_text(file.headers.get(b"content-type", b"")),
        is_gzipped=file.headers.get(b"content-encoding") == b"gzip",
        declared_md5=go_text(file.headers.get(b"content-md5", b"")),
        fields=file.fields,
    )


def _decide_mime(content: _Content) -> str:
    ext = extension(content.name)
    guess = mime_by_extension(ext.lower()) if ext and ext != content.name else ""
    declared = content.declared_type
    if declared and declared not in (_OCTET_STREAM, guess):
        return declared
    if guess and guess != _OCTET_STREAM and not content.mime:
        return guess
    return content.mime


def _compress(content: _Content, mime: str) -> bytes | None:
    kind = mime or sniff(content.data).decode()
    if kind == _OCTET_STREAM:
        kind = ""
    return gzip_if_smaller(content.data) if is_compressible(content.name, kind) else None


def _check_md5(expected: str, data: Buffer) -> None:
    computed = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    if computed != expected:
        raise FormatError(
            f"Content-MD5 did not match md5 of file data expected [{expected}] "
            f"received [{computed}] size {len(data)}"
        )


def _timestamp(text: str) -> int:
    """`ts`; 0 when it is no number. A number beyond 64 bits is the largest (COMPAT)."""
    digits = text.lstrip("0") if text.isascii() and text.isdigit() else ""
    return min(int(digits[:_U64_DIGITS] or "0"), _U64_MAX)


def _ttl(text: str) -> Ttl:
    if not text:
        return NO_TTL
    try:
        return parse_ttl(text)
    except FormatError:
        return NO_TTL


def _storable(text: str) -> bytes | None:
    raw = go_bytes(text)
    return raw if len(raw) <= _FIELD_LENGTH_MAX else None
