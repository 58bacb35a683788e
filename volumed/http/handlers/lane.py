"""The needle lane: requests for one needle answered at the connection, without a task or the framework.

A shortcut, never a second behaviour: it calls the functions that the handlers call, answers only what goes well, and
leaves every other case, errors included, to the handlers, which start from the beginning.
"""

from __future__ import annotations

import logging
import time

from volumed.bus.frames import SHARED_BODY_BYTES_MIN, StoreOutcome, StoreResult
from volumed.errors import StaleGeneration, VolumedError
from volumed.formats.fileid import parse_key_cookie, parse_volume_id
from volumed.formats.needle import Needle
from volumed.formats.replication import ReplicaPlacement
from volumed.http.handlers.write import (
    INLINE_PLAIN_BYTES_MAX,
    UploadTarget,
    pack_upload,
    parse_target,
    upload_response,
)
from volumed.http.objects.needle_source import needle_at_hand
from volumed.http.objects.node import Node
from volumed.http.objects.orientation import may_need_turning
from volumed.http.protocol.exchange import Exchange
from volumed.http.protocol.head import cors_headers
from volumed.http.protocol.responses import error_response
from volumed.http.rules.authorization import check_read, check_write, is_listed
from volumed.http.rules.read_decision import is_plain_get, plain_get_head
from volumed.http.rules.upload import parse_upload, parse_upload_form
from volumed.http.text.paths import parse_read_path
from volumed.metrics.front import HandlerEvent

__all__ = ["NeedleLane"]

_log = logging.getLogger(__name__)


class NeedleLane:
    """One per front. ``server`` is the `Server` header."""

    def __init__(self, node: Node, server: bytes) -> None:
        self._node = node
        self._metrics = node.metrics
        self._server = server
        self._downloads = node.downloads
        self._takes_writes = node.uploads is None
        """What uploads there may be in flight is for the handlers to see to."""
        self._size_limit_bytes = node.config.file_size_limit_bytes
        self._turns_images = node.config.images_upright

    def try_answer(self, exchange: Exchange) -> bool:
        """Answer the request now, or when the worker has; False: the handlers must."""
        method = exchange.request.method
        try:
            if method == "GET":
                return self._read(exchange)
            if method in ("PUT", "POST") and not exchange.public and self._takes_writes:
                return self._write(exchange)
        except VolumedError:
            pass  # the handler meets the same error and knows its answer
        except Exception:
            _log.exception("needle lane: %s", exchange.request.path)
        return False

    def _read(self, exchange: Exchange) -> bool:
        request, began_s = exchange.request, time.perf_counter()
        if not is_plain_get(request) or not exchange.keep_alive or request.http_version != "1.1":
            return False
        downloads = self._downloads
        if downloads is not None and downloads.is_over:
            return False  # waiting is for the handlers
        access = self._node.access
        if access.read_key is not None:
            check_read(request, access)
        path = parse_read_path(request.path)
        key, cookie = parse_key_cookie(path.fid_text)
        volume_id = parse_volume_id(path.vid_text)
        found = self._node.view.read_now(volume_id, key)
        needle = needle_at_hand(found, key) if found.handle is not None else self._from_shards(volume_id, key)
        if needle is None or needle.cookie != cookie:
            return False
        if needle.ttl and needle.is_expired(time.time_ns()):
            return False
        head = plain_get_head(needle, path, request.request_id, int(time.time()), self._server)
        if head is None or not exchange.body.complete:
            return False
        if downloads is not None:
            request.on_sent = downloads.take(needle.size)
        exchange.reply_raw(head, memoryview(needle.data))
        self._metrics.answered("GET", 200, began_s, public=exchange.public)
        return True

    def _from_shards(self, volume_id: int, key: int) -> Needle | None:
        shards = self._node.shards
        volume = shards.find(volume_id)
        return None if volume is None else shards.read_now(volume, key)

    def _write(self, exchange: Exchange) -> bool:
        request, node, began_s = exchange.request, self._node, time.perf_counter()
        access = node.access
        if access.write_key is not None:
            check_write(request, access)
        if not is_listed(request, access) or exchange.body.received >= SHARED_BODY_BYTES_MIN:
            return False
        body = exchange.body.take_all()
        form = parse_upload_form(request, body)
        volume_id = parse_volume_id(parse_read_path(request.path).vid_text)
        handle = node.view.locate(volume_id)
        if handle is None:
            return False
        if not form.is_replicate and ReplicaPlacement.from_byte(handle.record.replica_placement).copies > 1:
            return False
        upload = parse_upload(
            request,
            form,
            body,
            now_s=int(time.time()),
            size_limit_bytes=self._size_limit_bytes,
            plain_bytes_max=INLINE_PLAIN_BYTES_MAX,
        )
        if self._turns_images and may_need_turning(upload):
            return False
        target = parse_target(request, form, upload, volume_id)
        parts = pack_upload(target, handle.record, node.pool, None)
        try:
            node.link(handle.disk_id).store(
                parts.operation, lambda result: self._stored(exchange, target, began_s, result), parts.slab
            )
        finally:
            if parts.slab is not None:
                parts.slab.release()
        self._metrics.upload_began(request.method)
        return True

    def _stored(self, exchange: Exchange, target: UploadTarget, began_s: float, result: StoreResult) -> None:
        method, metrics = exchange.request.method, self._metrics
        metrics.upload_over(method, began_s)
        if isinstance(result.error, StaleGeneration):
            exchange.run_handler()
            return
        if result.outcome == StoreOutcome.ERROR:
            text = "" if result.error is None else result.error.text
            response = error_response(500, f"failed to write to local disk: {text}", pretty=target.form.pretty)
            metrics.happened(HandlerEvent.LOCAL_WRITE_FAILED)
            metrics.write_failed()
        else:
            response = upload_response(target, result)
            metrics.replicates_to(0)
        response.headers += cors_headers(exchange.request)
        exchange.reply(response)
        metrics.answered(method, response.status, began_s, public=False)
