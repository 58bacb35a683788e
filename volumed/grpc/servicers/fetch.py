"""FetchAndWriteNeedle: a range of a foreign object becomes a needle, here and on other copies (grpc.md 3.28)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, lru_cache

from google.protobuf import text_format

from volumed.bus.record_calls import ForeignRecord, StoreRecords
from volumed.errors import RetryError, VolumedError
from volumed.formats.checksum import crc32c, etag
from volumed.formats.needle import FLAG_LAST_MODIFIED, Needle, encode_body, encode_header
from volumed.grpc import texts
from volumed.grpc.node import GrpcNode
from volumed.grpc.replica_posts import NeedlePost, post_needle
from volumed.remote.errors import RemoteError
from volumed.remote.remote_conf import check_gcs_credentials, endpoint_of, s3_settings
from volumed.remote.s3 import S3Client
from volumed.security.endpoints import check_peer_target, check_remote_endpoint
from volumed.security.settings import load_security
from volumed.security.tls import TlsContext, client_tls
from volumed.storage.view import VolumeHandle
from volumed.wire import remote_pb2
from volumed.wire import volume_server_pb2 as pb

__all__ = ["FetchServicer"]

_STORE_TIMEOUT_S = 120.0
_REPLICAS_MAX = 64
_FETCHED_BYTES_MAX = 256 << 20
"""Of all calls at once."""
_TURN_TIMEOUT_S = 60.0

_cached_client = lru_cache(maxsize=32)(S3Client)


class FetchServicer:
    """FetchAndWriteNeedle."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node
        self._trusts_all = node.config.allow_untrusted_endpoints
        self._room = _Room(_FETCHED_BYTES_MAX)

    def fetch_and_write_needle(self, request: pb.FetchAndWriteNeedleRequest) -> pb.FetchAndWriteNeedleResponse:
        """Read, then store here and there at the same time."""
        self._node.refuse_in_maintenance()
        handle = self._node.locate(request.volume_id)
        if handle is None:
            raise VolumedError(texts.no_such_volume_id(request.volume_id))
        self._check_request(request)
        client = self._client(request)
        with self._room.taken(max(0, request.size)):
            data = _read(client, request)
            self._check_replicas(request)
            self._store_everywhere(handle, request, data)
        return pb.FetchAndWriteNeedleResponse(e_tag=etag(crc32c(data)))

    def _check_request(self, request: pb.FetchAndWriteNeedleRequest) -> None:
        # The reference process ends on these (rule P9).
        if not request.HasField("remote_conf"):
            raise VolumedError("the request has no remote_conf")
        if not request.HasField("remote_location") or not request.remote_location.path.strip("/"):
            raise VolumedError("the request names no remote object")
        limit = self._node.config.file_size_limit_bytes
        if request.size > limit:
            raise VolumedError(f"a needle of {request.size} bytes is over the limit of {limit}")
        if len(request.replicas) > _REPLICAS_MAX:
            raise VolumedError(f"{len(request.replicas)} replicas are too many")

    def _client(self, request: pb.FetchAndWriteNeedleRequest) -> S3Client:
        conf = request.remote_conf
        if not self._trusts_all:
            with _prefixed("reject remote credentials: "):
                check_gcs_credentials(conf)
            endpoint = endpoint_of(conf)
            with _prefixed("reject remote endpoint: "):
                if endpoint:
                    check_remote_endpoint(endpoint)
        with _prefixed(f"get remote client: make remote storage client {conf.name}: "):
            settings = s3_settings(conf)
            if settings is None:
                raise VolumedError(f"remote storage type {conf.type} not found")
            # A client that must look where it connects to is not kept: names change their addresses.
            return _cached_client(settings) if self._trusts_all else S3Client(settings, _checked_address)

    def _check_replicas(self, request: pb.FetchAndWriteNeedleRequest) -> None:
        if not self._trusts_all:
            with _prefixed("reject replica target: "):
                for replica in request.replicas:
                    check_peer_target(replica.url)

    def _store_everywhere(self, handle: VolumeHandle, request: pb.FetchAndWriteNeedleRequest, data: bytes) -> None:
        """A failure here counts more than one elsewhere; what has been stored stays."""
        post = NeedlePost(request.volume_id, request.needle_id, request.cookie, data, request.auth)
        tls = self._peer_tls.current if self._peer_tls else None
        with ThreadPoolExecutor(max(1, len(request.replicas)), thread_name_prefix="replica") as pool:
            posts = [pool.submit(post_needle, post, replica.url, tls) for replica in request.replicas]
            what = f"write needle {request.needle_id} size {request.size}: "
            with _prefixed(f"local {what}"):
                self._store(handle, request, data)
            with _prefixed(f"remote {what}"):
                for done in posts:
                    done.result()

    def _store(self, handle: VolumeHandle, request: pb.FetchAndWriteNeedleRequest, data: bytes) -> None:
        needle = Needle(key=request.needle_id, cookie=request.cookie, data=data)
        needle.flags = FLAG_LAST_MODIFIED
        needle.last_modified = int(time.time())
        body = b"".join(encode_body(needle, handle.record.version))
        header = encode_header(request.cookie, request.needle_id, len(body))
        record = ForeignRecord(request.needle_id, header, body, crc32c(data))
        self._node.worker(handle.disk_id, StoreRecords(request.volume_id, [record]), _STORE_TIMEOUT_S)

    @cached_property
    def _peer_tls(self) -> TlsContext | None:
        return client_tls(load_security(self._node.config.runtime_dir).https_client)


class _Room:
    """Memory for what is being fetched."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Wait for ``size`` bytes, and give them back. What is longer than all waits to be alone. Raises
        `RetryError` after a minute."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._used or self._used + size <= self._limit, _TURN_TIMEOUT_S):
                raise RetryError("too much is being fetched already")
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()


def _read(client: S3Client, request: pb.FetchAndWriteNeedleRequest) -> bytes:
    """The range, whole. Raises `VolumedError`."""
    location = request.remote_location
    bucket, key = location.bucket, location.path.removeprefix("/")
    with _prefixed(f"read from remote {_text_of(location)}: "):
        try:
            if request.size > 0 and request.offset >= 0:
                data = client.get(bucket, key, request.offset, request.size)
                found = len(data)
            else:
                # COMPAT: such a range is ignored, so that everything comes.
                found = client.size(bucket, key)
                data = client.get(bucket, key, 0, found) if 0 < found == request.size else b""
        except RemoteError as error:
            raise VolumedError(f"failed to download file {bucket}/{key}: {error.text}") from None
        if len(data) != request.size or not data:
            where = f"short read from {bucket}/{key} at offset {request.offset}"
            raise VolumedError(f"{where}: got {found} bytes, want {request.size}")
    return data


def _text_of(location: remote_pb2.RemoteStorageLocation) -> str:
    """As the reference prints messages: two spaces between fields."""
    lines = text_format.MessageToString(location, as_utf8=True).splitlines()
    return "  ".join(line.replace(": ", ":", 1) for line in lines)


def _checked_address(host: str, port: int) -> str:
    """Where to connect to for a name, checked at this moment. Raises `ClientError`."""
    named = f"[{host}]" if ":" in host else host
    return check_remote_endpoint(f"http://{named}:{port}")[0]


@contextmanager
def _prefixed(prefix: str) -> Iterator[None]:
    """Errors with a text in front, all of status UNKNOWN."""
    try:
        yield
    except VolumedError as error:
        raise VolumedError(prefix + error.text) from None
