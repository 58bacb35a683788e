"""From an upload request to the fields of a needle (http.md 4.1 steps 4 and 7, 4.2 to 4.6)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import NamedTuple

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
from volumed.http.protocol.message import Request
from volumed.http.rules.multipart import parse_form_data
from volumed.http.text.compression import DECOMPRESSED_BYTES_MAX, gzip_if_smaller, is_compressible, measure_gzip
from volumed.http.text.disposition import base_name, raw_upload_name
from volumed.http.text.jsontext import encode_json
from volumed.http.text.mediatype import parse_media_type
from volumed.http.text.mime import extension, mime_by_extension
from volumed.http.text.pairs import collect_pairs
from volumed.http.text.query import Form, go_bool, parse_form
from volumed.http.text.sniff import sniff

__all__ = [
    "FORM_TOO_LARGE",
    "ContentHead",
    "ParsedUpload",
    "UploadForm",
    "UploadRules",
    "check_md5",
    "form_content_head",
    "is_form_body",
    "is_form_upload",
    "parse_upload",
    "parse_upload_form",
    "raw_content_head",
    "upload_result",
]

FORM_TOO_LARGE = "http: POST too large"

_FORM_BODY_BYTES_MAX = 10 << 20
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

    def to_needle(self, key: int, cookie: int, checksum: int | None = None) -> Needle:
        """The needle to write; ``checksum`` is that of the data, None = to be computed."""
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
            checksum=crc32c(self.data) if checksum is None else checksum,
        )


@dataclass(slots=True)
class ContentHead:
    """What the framing of an upload says about the data."""

    name: str
    mime: str
    declared_type: str
    is_gzipped: bool
    declared_md5: str


class UploadRules:
    """Decisions about one content, once all form values are known."""

    __slots__ = ("_form", "_head", "_request", "_values", "expected_md5", "is_manifest", "mime")

    def __init__(self, request: Request, form: UploadForm, head: ContentHead, fields: dict[str, str]) -> None:
        """``fields`` are the text fields of a multipart form."""
        self._request = request
        self._form = form
        self._head = head
        self._values = {**fields, **form.values} if fields else form.values
        self.is_manifest = go_bool(self._values.get("cm", ""))
        self.mime = head.mime if self.is_manifest else _decide_mime(head)
        self.expected_md5 = go_text(request.headers.get(b"content-md5", b"")) or head.declared_md5

    def compresses(self, start: Buffer) -> bool:
        """Whether data that start like this are to be compressed, if that makes them smaller (http.md 4.4)."""
        if self._head.is_gzipped or self._form.query.get("type") == "replicate":
            return False
        kind = self.mime or sniff(start).decode()
        return is_compressible(self._head.name, "" if kind == _OCTET_STREAM else kind)

    def upload(self, data: Buffer, *, is_compressed: bool, original_size: int, now_s: int) -> ParsedUpload:
        """What is stored; ``data`` as they are stored, ``is_compressed`` by us."""
        values = self._values
        return ParsedUpload(
            data=data,
            name=_storable(self._head.name),
            mime=_storable(self.mime),
            pairs=collect_pairs(self._request.raw_headers),
            last_modified=_timestamp(values.get("ts", "")) or now_s,
            ttl=_ttl(values.get("ttl", "")),
            is_manifest=self.is_manifest,
            is_gzipped=self._head.is_gzipped or is_compressed,
            original_size=original_size,
            content_md5=self.expected_md5,
        )


class _Content(NamedTuple):
    """A complete body and what its framing says about it."""

    head: ContentHead
    data: Buffer
    fields: dict[str, str]


def is_form_body(request: Request) -> bool:
    """Whether the body is urlencoded form values. Raises `FormatError` for a type that cannot be read."""
    content_type = request.headers.get(b"content-type", b"")
    return bool(content_type) and parse_media_type(go_text(content_type))[0] == _URLENCODED


def parse_upload_form(request: Request, body: Buffer) -> UploadForm:
    """Step 4 of an upload: decode query and urlencoded body. Raises `FormatError`."""
    consumed = is_form_body(request)
    fields: Form = {}
    if consumed:
        encoded = bytes(body[: _FORM_BODY_BYTES_MAX + 1])
        if len(encoded) > _FORM_BODY_BYTES_MAX:
            raise FormatError(FORM_TOO_LARGE)
        fields = parse_form(encoded)
    query = parse_form(request.query_string) if request.query_string else {}
    return UploadForm(query, {**query, **fields} if fields else query, consumed)


def parse_upload(
    request: Request,
    form: UploadForm,
    body: Buffer,
    *,
    now_s: int,
    size_limit_bytes: int,
    plain_bytes_max: int = DECOMPRESSED_BYTES_MAX,
) -> ParsedUpload:
    """Step 7 of an upload. Raises `FormatError` or `SizeLimitExceeded`, both answered 400, and
    `DecompressedTooLarge` (413)."""
    head, data, fields = _read_content(request, b"" if form.body_consumed else body, size_limit_bytes)
    rules = UploadRules(request, form, head, fields)
    original_size = _check_plain(data, rules.expected_md5, plain_bytes_max) if head.is_gzipped else None
    if original_size is None:
        original_size = len(data)
        if rules.expected_md5:
            check_md5(rules.expected_md5, _md5_text(data), original_size)
    compressed = gzip_if_smaller(data) if rules.compresses(data) else None
    return rules.upload(
        data if compressed is None else compressed,
        is_compressed=compressed is not None,
        original_size=original_size,
        now_s=now_s,
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


def is_form_upload(request: Request) -> bool:
    """Whether the body of a POST is a form; all others are the data as they are (http.md 4.2)."""
    content_type = request.headers.get(b"content-type", b"")
    return request.method == "POST" and (not content_type or b"form-data" in content_type)


def raw_content_head(request: Request) -> ContentHead:
    """Of a body that is no form."""
    declared = go_text(request.headers.get(b"content-type", b""))
    return ContentHead(
        name=base_name(raw_upload_name(request.headers.get(b"content-disposition"), request.path)),
        mime=declared,
        declared_type=declared,
        is_gzipped=request.headers.get(b"content-encoding") == b"gzip",
        declared_md5="",
    )


def form_content_head(filename: str, headers: dict[bytes, bytes]) -> ContentHead:
    """Of a part of a form."""
    return ContentHead(
        name=base_name(filename),
        mime="",
        declared_type=go_text(headers.get(b"content-type", b"")),
        is_gzipped=headers.get(b"content-encoding") == b"gzip",
        declared_md5=go_text(headers.get(b"content-md5", b"")),
    )


def _read_content(request: Request, body: Buffer, size_limit_bytes: int) -> _Content:
    if is_form_upload(request):
        file = parse_form_data(request.headers.get(b"content-type", b""), body, size_limit_bytes)
        return _Content(form_content_head(file.filename, file.headers), file.data, file.fields)
    if len(body) > size_limit_bytes:
        raise SizeLimitExceeded.file(size_limit_bytes)
    return _Content(raw_content_head(request), body, {})


def _decide_mime(content: ContentHead) -> str:
    ext = extension(content.name)
    guess = mime_by_extension(ext.lower()) if ext and ext != content.name else ""
    declared = content.declared_type
    if declared and declared not in (_OCTET_STREAM, guess):
        return declared
    if guess and guess != _OCTET_STREAM and not content.mime:
        return guess
    return content.mime


def _md5_text(data: Buffer) -> str:
    """MD5 in base64, as `Content-MD5` has it."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _check_plain(data: Buffer, expected_md5: str, plain_bytes_max: int) -> int | None:
    """The length of what gzip data become, which ``expected_md5`` is about; None when they are something else."""
    digest = hashlib.md5(usedforsecurity=False) if expected_md5 else None
    size = measure_gzip(data, digest, plain_bytes_max)
    if size is not None and digest is not None:
        check_md5(expected_md5, base64.b64encode(digest.digest()).decode(), size)
    return size


def check_md5(expected: str, computed: str, size: int) -> None:
    """Raises `FormatError` when they differ (http.md 4.5)."""
    if computed != expected:
        raise FormatError(
            f"Content-MD5 did not match md5 of file data expected [{expected}] received [{computed}] size {size}"
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
