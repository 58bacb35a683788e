"""Needles for the other copies of a volume, sent from a thread (docs/spec/grpc.md 3.28, http.md 4.7)."""

from __future__ import annotations

import http.client
import secrets
import ssl
from typing import NamedTuple

import msgspec

from volumed.errors import ClientError
from volumed.formats.fileid import format_file_id

__all__ = ["NeedlePost", "post_needle"]

_TIMEOUT_S = 30.0
_ANSWER_BYTES_MAX = 64 << 10
_STORED_BEFORE = 204


class NeedlePost(NamedTuple):
    """What every copy gets."""

    volume_id: int
    key: int
    cookie: int
    data: bytes
    token: str
    """Empty = none."""


class _Answer(msgspec.Struct):
    error: str = ""


def post_needle(post: NeedlePost, target: str, tls: ssl.SSLContext | None) -> None:
    """Store a needle on the server ``host:port``, or ``host:port.grpcPort``. Waits. Raises `ClientError`."""
    host, _, ports = target.rpartition(":")
    address = f"{host}:{ports.partition('.')[0]}"
    path = f"/{format_file_id(post.volume_id, post.key, post.cookie)}?type=replicate"
    url = f"{'https' if tls else 'http'}://{address}{path}"
    try:
        status, answer = _send(address, path, url, post, tls)
    except ConnectionRefusedError:
        reason = f'Post "{url}": dial tcp {address}: connect: connection refused'
        raise ClientError(f"upload  {len(post.data)} bytes to {url}: {reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise ClientError(f'upload  {len(post.data)} bytes to {url}: Post "{url}": {error}') from None
    if status == _STORED_BEFORE:
        return
    try:
        problem = msgspec.json.decode(answer, type=_Answer).error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClientError(f"unmarshal {url}: {error}") from None
    if problem:
        raise ClientError(f"unmarshalled error {url}: {problem}")


def _send(address: str, path: str, url: str, post: NeedlePost, tls: ssl.SSLContext | None) -> tuple[int, bytes]:
    connection: http.client.HTTPConnection
    if tls is None:
        connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
    else:
        connection = http.client.HTTPSConnection(address, timeout=_TIMEOUT_S, context=tls)
    boundary = secrets.token_hex(30)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename=""\r\nIdempotency-Key: {url}\r\n\r\n'
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(len(head) + len(post.data) + len(tail)),
    }
    if post.token:
        headers["Authorization"] = f"Bearer {post.token}"
    try:
        connection.request("POST", path, iter((head, post.data, tail)), headers)
        response = connection.getresponse()
        return response.status, response.read(_ANSWER_BYTES_MAX)
    finally:
        connection.close()
