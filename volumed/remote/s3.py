"""A client of the S3 REST API: the few requests that a storage node makes (docs/spec/grpc.md 5.1, 5.5).

Signatures and the search for credentials are botocore's, connections are urllib3's. The client of botocore itself would
cost a process three times the memory, follows redirects and proxies, and cannot be told to which address to connect,
which `FetchAndWriteNeedle` must decide. Both libraries are imported with the first client.

Nothing is followed and nothing retried here, except a request on a kept connection that the server has closed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

from volumed import REFERENCE_VERSION
from volumed.remote.errors import RemoteError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

__all__ = ["Body", "S3Client", "S3Settings"]

_CONNECT_TIMEOUT_S = 5.0
_SILENCE_S = 15.0
"""Longest time without a byte from the server."""
_READ_LIMIT_S = 25.0
"""Longest time for a whole `S3Client.get`: nobody waits longer for it."""
_BLOCK_BYTES = 1 << 20
_ERROR_BYTES_MAX = 64 << 10
_CONNECTIONS_KEPT = 16
_FIELD = r"<%s>([^<]*)</%s>"


class S3Settings(NamedTuple):
    """Where buckets are and how to sign."""

    endpoint: str = ""
    """A URL; empty = the public one of the region."""
    region: str = ""
    access_key: str = ""
    secret_key: str = ""
    path_style: bool = True
    """``endpoint/bucket/key``, else ``bucket.endpoint/key``."""
    anonymous: bool = False
    """Without keys: send unsigned requests instead of looking for credentials in the process's surroundings."""


class Body(Protocol):
    """What is sent: read twice, once for its hash."""

    def read(self, length: int = -1, /) -> bytes: ...
    def seek(self, position: int, /) -> Any: ...
    def tell(self) -> int: ...
    def __len__(self) -> int: ...


class S3Client:
    """Requests to one endpoint; any thread. Everything raises `RemoteError`.

    ``choose_address`` decides, given host and port, to which address to connect; it may raise.
    """

    def __init__(self, settings: S3Settings, choose_address: Callable[[str, int], str] | None = None) -> None:
        import urllib3  # noqa: F401 - a missing library is to be noticed here

        self._settings = settings
        self._choose_address = choose_address
        self._region = settings.region or "us-east-1"
        self._endpoint = settings.endpoint or f"https://s3.{self._region}.amazonaws.com"
        if "://" not in self._endpoint:
            self._endpoint = f"https://{self._endpoint}"
        url = urlsplit(self._endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise RemoteError(f"endpoint {self._endpoint} is no URL")
        self._pools: dict[str, HTTPConnectionPool] = {}
        self._signer = self._make_signer()

    def get(self, bucket: str, key: str, offset: int, length: int) -> bytes:
        """Bytes of an object; fewer than ``length`` only at its end."""
        blocks = []
        deadline = time.monotonic() + _READ_LIMIT_S
        with closing(self.blocks(bucket, key, offset, length)) as source:
            for block in source:
                blocks.append(block)
                if time.monotonic() > deadline:
                    raise RemoteError.unreachable(f"no whole answer within {_READ_LIMIT_S:g} s")
        return b"".join(blocks)

    def blocks(self, bucket: str, key: str, offset: int, length: int) -> Generator[bytes, None, None]:
        """The same piece by piece."""
        from urllib3.exceptions import HTTPError

        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        response = self._send("GET", bucket, key, headers=headers)
        try:
            _require(response, 206, *([200] if not offset else []))
            while length > 0 and (block := response.read(min(_BLOCK_BYTES, length))):
                length -= len(block)
                yield block
        except HTTPError as error:
            raise RemoteError.unreachable(error) from None
        finally:
            _let_go(response)

    def size(self, bucket: str, key: str) -> int:
        """Length of an object in bytes."""
        response = self._send("HEAD", bucket, key)
        try:
            _require(response, 200)
            return int(response.headers.get("Content-Length", "0"))
        finally:
            _let_go(response)

    def put(self, bucket: str, key: str, body: Body, storage_class: str = "") -> None:
        """Store an object."""
        self._answer("PUT", bucket, key, body=body, headers=_class_header(storage_class))

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object; one that is not there is not an error."""
        self._answer("DELETE", bucket, key, accepted=(200, 204))

    def start_parts(self, bucket: str, key: str, storage_class: str = "") -> str:
        """Begin an object that comes in parts; its upload id."""
        answer = self._answer("POST", bucket, key, "uploads=", headers=_class_header(storage_class))
        upload_id = _field(answer, "UploadId")
        if not upload_id:
            raise RemoteError("SerializationError: the answer has no upload id")
        return upload_id

    def put_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> str:
        """Send part ``number``, from 1; its tag."""
        response = self._send("PUT", bucket, key, f"partNumber={number}&uploadId={quote(upload_id, safe='')}", body)
        try:
            _require(response, 200)
            return str(response.headers.get("ETag", ""))
        finally:
            _let_go(response)

    def finish_parts(self, bucket: str, key: str, upload_id: str, tags: list[str]) -> None:
        """Make the object of its parts, in order."""
        import html

        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{html.escape(tag)}</ETag></Part>"
            for number, tag in enumerate(tags, 1)
        )
        content = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        answer = self._answer("POST", bucket, key, f"uploadId={quote(upload_id, safe='')}", content)
        if "<Error>" in answer:
            # The status was sent before the outcome was known.
            raise RemoteError.refused(_field(answer, "Code"), _field(answer, "Message"), 200, "")

    def drop_parts(self, bucket: str, key: str, upload_id: str) -> None:
        """Forget an object that comes in parts."""
        self._answer("DELETE", bucket, key, f"uploadId={quote(upload_id, safe='')}", accepted=(200, 204))

    def close(self) -> None:
        """Close kept connections."""
        for pool in self._pools.values():
            pool.close()

    def _answer(
        self,
        method: str,
        bucket: str,
        key: str,
        query: str = "",
        body: Body | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accepted: tuple[int, ...] = (200,),
    ) -> str:
        """Send, and read the short answer."""
        from urllib3.exceptions import HTTPError

        response = self._send(method, bucket, key, query, body, headers)
        try:
            _require(response, *accepted)
            return response.read(_ERROR_BYTES_MAX).decode("utf-8", "replace")
        except HTTPError as error:
            raise RemoteError.unreachable(error) from None
        finally:
            _let_go(response)

    def _send(
        self,
        method: str,
        bucket: str,
        key: str,
        query: str = "",
        body: Body | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> BaseHTTPResponse:
        """One request; the answer's body is not read yet."""
        from urllib3.exceptions import HTTPError, ProtocolError

        url = self._url(bucket, key, query)
        parts = urlsplit(url)
        signed = self._signed(method, url, body, headers or {})
        signed |= {"Host": parts.netloc, "User-Agent": f"SeaweedFS/{REFERENCE_VERSION}"}
        if body is not None:
            signed["Content-Length"] = str(len(body))
        content: Any = body
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        pool = self._pool(url)
        for may_be_stale in (True, False):
            try:
                return pool.urlopen(
                    method, target, content, signed, retries=False, redirect=False, preload_content=False
                )
            except ProtocolError as error:
                if not may_be_stale:
                    raise RemoteError.unreachable(error) from None
                if body is not None and not isinstance(body, bytes):
                    body.seek(0)
            except (HTTPError, OSError, ValueError) as error:
                raise RemoteError.unreachable(error) from None
        raise AssertionError("unreachable")

    def _url(self, bucket: str, key: str, query: str) -> str:
        endpoint = urlsplit(self._endpoint)
        path = quote(key, safe="/-_.~")
        host = endpoint.netloc
        if self._settings.path_style:
            path = f"{quote(bucket, safe='-_.~')}/{path}"
        else:
            host = f"{bucket}.{host}"
        url = f"{endpoint.scheme}://{host}{endpoint.path.rstrip('/')}/{path}"
        return f"{url}?{query}" if query else url

    def _pool(self, url: str) -> HTTPConnectionPool:
        """Connections to the host of a URL."""
        import urllib3

        parts = urlsplit(url)
        found = self._pools.get(parts.netloc)
        if found is not None:
            return found
        try:
            host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise RemoteError.unreachable(error) from None
        address = self._choose_address(host, port) if self._choose_address else host
        timeout = urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=_SILENCE_S)
        pool: HTTPConnectionPool
        if parts.scheme == "https":
            pool = urllib3.HTTPSConnectionPool(
                address, port, timeout=timeout, maxsize=_CONNECTIONS_KEPT, server_hostname=host, assert_hostname=host
            )
        else:
            pool = urllib3.HTTPConnectionPool(address, port, timeout=timeout, maxsize=_CONNECTIONS_KEPT)
        return self._pools.setdefault(parts.netloc, pool)

    def _make_signer(self) -> Any:
        """None = requests are not signed."""
        from botocore.auth import S3SigV4Auth
        from botocore.credentials import Credentials

        settings = self._settings
        if settings.access_key and settings.secret_key:
            credentials = Credentials(settings.access_key, settings.secret_key)
        elif settings.anonymous:
            return None
        else:
            from botocore.session import get_session

            credentials = get_session().get_credentials()
            if credentials is None:
                raise RemoteError("NoCredentialProviders: no valid providers in chain")
        return S3SigV4Auth(credentials, "s3", self._region)

    def _signed(
        self, method: str, url: str, body: Body | bytes | None, headers: Mapping[str, str]
    ) -> dict[str, str]:
        from botocore.awsrequest import AWSRequest

        request = AWSRequest(method, url, dict(headers), data=body)
        if self._signer is not None:
            self._signer.add_auth(request)
        return dict(request.headers.items())


def _class_header(storage_class: str) -> dict[str, str]:
    return {"x-amz-storage-class": storage_class} if storage_class else {}


def _require(response: BaseHTTPResponse, *accepted: int) -> None:
    """Raises `RemoteError` for any other status."""
    from urllib3.exceptions import HTTPError

    if response.status in accepted:
        return
    try:
        text = response.read(_ERROR_BYTES_MAX).decode("utf-8", "replace")
    except HTTPError:
        text = ""
    reason = response.reason or "Unknown"
    code = _field(text, "Code") or reason.replace(" ", "")
    message = _field(text, "Message") or reason
    request_id = str(response.headers.get("x-amz-request-id", ""))
    raise RemoteError.refused(code, message, response.status, request_id)


def _field(text: str, name: str) -> str:
    import html

    found = re.search(_FIELD % (name, name), text)
    return html.unescape(found[1]) if found else ""


def _let_go(response: BaseHTTPResponse) -> None:
    """Keep the connection if the whole answer was read, else close it."""
    if response.length_remaining:
        response.close()
    response.release_conn()
