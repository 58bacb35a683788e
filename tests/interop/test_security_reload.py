"""White list and SIGHUP, and tokens between servers: ``weed volume`` and volumed side by side (http.md 1.7, 8.3)."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator
from typing import NamedTuple

import grpc
import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume, fid_on
from tests.processes import wait_until
from tests.tokens import bearer, token
from tests.web import delete, get, get_json, request, upload
from volumed.wire import volume_server_pb2 as pb
from volumed.wire import volume_server_pb2_grpc

pytestmark = pytest.mark.interop

RELOAD_LIMIT_S = 60.0
FID = "999,01aabbccdd"
WRITE_KEY, READ_KEY = "w", "r"
KEYS = f'jwt.signing.key="{WRITE_KEY}"\njwt.signing.read.key="{READ_KEY}"\n'
NOT_LISTED = (401, b"", None)
keys = itertools.count(0x100)


class Pair(NamedTuple):
    master: Master
    reference: WeedVolume
    ours: Volumed

    def configure(self, settings: str) -> None:
        """New settings for both."""
        for server in (self.reference, self.ours):
            (server.home / "security.toml").write_text(settings)
            server.signal(signal.SIGHUP)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both start open; each test configures them as it needs them."""
    home = tmp_path_factory.mktemp("reload")
    with (
        Master(home / "m") as master,
        WeedVolume(home / "w", master=master) as reference,
        Volumed(home / "v", master=master) as ours,
    ):
        get_json(master.address, "/vol/grow?count=2")
        get_json(master.address, "/vol/grow?count=1&replication=001")
        yield Pair(master, reference, ours)


def put_answer(server: VolumeServer) -> tuple[int, bytes, str | None]:
    answer = upload(server.address, FID, b"x")
    return answer.status, answer.body, answer.headers["Content-Type"]


def await_refusal(pair: Pair, *, refused: bool) -> None:
    for server in (pair.reference, pair.ours):
        wait_until(
            lambda server=server: (put_answer(server)[0] == 401) == refused,  # type: ignore[misc]
            timeout_s=RELOAD_LIMIT_S,
            what=f"{server.name} with the new settings",
        )


def call(server: VolumeServer, method: str) -> tuple[grpc.StatusCode, str]:
    """Code and text of an RPC with an empty request."""
    request_class = getattr(pb, f"{method}Request")
    with grpc.insecure_channel(server.grpc_address) as channel:
        rpc = getattr(volume_server_pb2_grpc.VolumeServerStub(channel), method)
        try:
            rpc(request_class(), timeout=20)
        except grpc.RpcError as error:
            return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def test_a_white_list_without_us(pair: Pair) -> None:
    pair.configure('guard.white_list = "10.9.9.9,10.0.0.0/8,no/range"')
    await_refusal(pair, refused=True)
    for method in ("PUT", "POST", "DELETE"):
        for target in (f"/{FID}", "/x", f"/{FID}?a=%zz"):
            for server in (pair.reference, pair.ours):
                answer = request(method, server.address, target, body=b"x")
                assert (answer.status, answer.body, answer.headers["Content-Type"]) == NOT_LISTED, (method, target)
    for method, status in (("GET", 404), ("HEAD", 404), ("OPTIONS", 200), ("PATCH", 400)):
        for server in (pair.reference, pair.ours):
            assert request(method, server.address, f"/{FID}").status == status, method
    refusal = grpc.StatusCode.PERMISSION_DENIED, "not authorized: 127.0.0.1"
    for server in (pair.reference, pair.ours):
        for rpc in ("BatchDelete", "DeleteCollection", "AllocateVolume", "VolumeMarkReadonly", "ScrubVolume"):
            assert call(server, rpc) == refusal, rpc
        assert call(server, "VolumeServerStatus")[0] == call(server, "GetState")[0] == grpc.StatusCode.OK
        assert call(server, "VolumeStatus")[0] == grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize("entry", ["127.0.0.1", "10.9.9.9,127.0.0.0/8", "no/range"])
def test_a_white_list_with_us_or_without_a_usable_entry(pair: Pair, entry: str) -> None:
    pair.configure('guard.white_list = "10.9.9.9"')
    await_refusal(pair, refused=True)
    pair.configure(f'guard.white_list = "{entry}"')
    await_refusal(pair, refused=False)
    assert put_answer(pair.reference)[0] == put_answer(pair.ours)[0] == 500


def test_a_file_that_is_broken_changes_nothing(pair: Pair) -> None:
    pair.configure('guard.white_list = "10.9.9.9"')
    await_refusal(pair, refused=True)
    (pair.ours.home / "security.toml").write_text("[[[")
    pair.ours.signal(signal.SIGHUP)
    wait_until(lambda: "stay as they are" in pair.ours.log_tail(), timeout_s=RELOAD_LIMIT_S, what="the complaint")
    assert put_answer(pair.ours) == NOT_LISTED


@pytest.fixture
def locked(pair: Pair) -> Pair:
    """Both ask for tokens."""
    pair.configure('guard.white_list = ""\n' + KEYS)
    for server in (pair.reference, pair.ours):
        wait_until(
            lambda server=server: put_answer(server)[1] == b'{"error":"wrong jwt"}',  # type: ignore[misc]
            timeout_s=RELOAD_LIMIT_S,
            what=f"{server.name} locked",
        )
    return pair


@pytest.mark.parametrize("source", ["query", "header", "cookie"])
def test_the_callers_token_reaches_the_replica(locked: Pair, source: str) -> None:
    volume_id = get_json(locked.master.address, "/dir/assign?replication=001")["fid"].partition(",")[0]
    fid = f"{volume_id},{next(keys):04x}aabbccdd"
    right = token(fid, WRITE_KEY)
    query = f"?jwt={right}" if source == "query" else ""
    headers = {"header": bearer(right), "cookie": {"Cookie": f"AT={right}"}}.get(source, {})
    assert request("PUT", locked.ours.address, f"/{fid}{query}", body=b"abc", headers=headers).status == 201
    for server in (locked.reference, locked.ours):
        assert get(server.address, f"/{fid}", headers=bearer(token(fid, READ_KEY))).body == b"abc"
    assert request("DELETE", locked.ours.address, f"/{fid}{query}", headers=headers).status == 202
    for server in (locked.reference, locked.ours):
        assert get(server.address, f"/{fid}", headers=bearer(token(fid, READ_KEY))).status == 404


def test_files_with_chunks_elsewhere_are_read_and_deleted(locked: Pair) -> None:
    chunk, fid = fid_on(locked.master, locked.reference), fid_on(locked.master, locked.ours)
    assert upload(locked.reference.address, chunk, b"0123456789", headers=bearer(token(chunk, WRITE_KEY))).status == 201
    manifest = json.dumps({"chunks": [{"fid": chunk, "offset": 0, "size": 10}], "size": 10}).encode()
    write = bearer(token(fid, WRITE_KEY))
    assert request("PUT", locked.ours.address, f"/{fid}?cm=true", body=manifest, headers=write).status == 201
    read = bearer(token(fid, READ_KEY))
    assert get(locked.ours.address, f"/{fid}", headers=read).body == b"0123456789"
    assert get(locked.ours.address, f"/{fid}", headers={**read, "Range": "bytes=3-5"}).body == b"345"
    assert delete(locked.ours.address, fid, headers=write).json() == {"size": 10}
    assert get(locked.reference.address, f"/{chunk}", headers=bearer(token(chunk, READ_KEY))).status == 404


def test_proxied_reads_carry_the_token(locked: Pair) -> None:
    fid = fid_on(locked.master, locked.reference)
    assert upload(locked.reference.address, fid, b"abc", headers=bearer(token(fid, WRITE_KEY))).status == 201
    right = token(fid, READ_KEY)
    assert get(locked.ours.address, f"/{fid}?jwt={right}").body == b"abc"
    assert get(locked.ours.address, f"/{fid}", headers=bearer(right)).body == b"abc"
