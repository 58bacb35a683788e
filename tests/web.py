"""Small HTTP client of the tests: one connection per request, bytes in, bytes out, nothing followed or retried."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

__all__ = ["Assigned", "Response", "assign", "delete", "get", "get_json", "multipart", "request", "stored", "upload"]

TIMEOUT_S = 60.0
BOUNDARY = "volumed-test-boundary"


class Response(NamedTuple):
    """What came back. Header names are looked up without regard to case."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Assigned(NamedTuple):
    """Answer of ``/dir/assign``: a file id and the ``host:port`` of the node that takes it."""

    fid: str
    url: str


def request(
    method: str,
    address: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Response:
    """Send one request to ``host:port``; ``path`` (with query) goes out as it is. Raises OSError, also for an answer
    that ends too early: its server may have been killed."""
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return Response(answer.status, answer.headers, answer.read())
    except http.client.HTTPException as error:
        raise ConnectionError(f"{method} {address}{path}: {error!r}") from error
    finally:
        connection.close()


def get(address: str, path: str, **options: Any) -> Response:
    """GET."""
    return request("GET", address, path, **options)


def get_json(address: str, path: str) -> Any:
    """The JSON of a GET that must answer 200. Raises OSError otherwise, so that it can be polled."""
    response = get(address, path)
    if response.status != 200:
        raise OSError(f"{address}{path}: status {response.status}: {response.body[:200]!r}")
    return response.json()


def assign(address: str, **query: str | int) -> Assigned:
    """Ask a master (or a standalone node) for a file id. Raises OSError when it has none to give."""
    answer = get_json(address, f"/dir/assign?{urlencode(query)}")
    if "fid" not in answer:
        raise OSError(f"assign: {answer}")
    return Assigned(answer["fid"], answer["url"])


def upload(address: str, fid: str, data: bytes, *, query: str = "", **options: Any) -> Response:
    """PUT ``data`` as the raw body, without a media type."""
    return request("PUT", address, f"/{fid}?{query}" if query else f"/{fid}", body=data, **options)


def stored(address: str, data: bytes) -> str:
    """The id of a new object of a standalone node."""
    fid = assign(address).fid
    assert upload(address, fid, data).status == 201
    return fid


def multipart(
    data: bytes, *, filename: str = "", mime: str = "", part_headers: Sequence[str] = ()
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a form with one file, as curl -F sends it, plus ``part_headers`` lines."""
    lines = [f"--{BOUNDARY}", f'Content-Disposition: form-data; name="file"; filename="{quote(filename)}"']
    if mime:
        lines.append(f"Content-Type: {mime}")
    lines.extend(part_headers)
    body = "\r\n".join([*lines, "", ""]).encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def delete(address: str, fid: str, **options: Any) -> Response:
    """DELETE one file id."""
    return request("DELETE", address, f"/{fid}", **options)
