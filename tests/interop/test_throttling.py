"""Limits of bytes in flight (http.md 7): the reference and both lanes of ours, asked the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.processes import free_port
from tests.slow_clients import Client, connect
from tests.web import Response, assign, delete, get, get_json, upload

pytestmark = pytest.mark.interop

LIMIT = 1 << 20
LARGE = b"\x01" * (12 << 20)
"""More than the kernel takes from a server whose client does not read."""
PATIENCE_S = 8
QUIET_S = 0.3
UNKNOWN = "4000000,0101020304"
keys = itertools.count(0x100)

UPLOAD_TEXT = b"reject because inflight upload data 2097152 \\u003e 1048576, and wait timeout"
UPLOADS_REFUSED = [
    (429, form % UPLOAD_TEXT, "application/json")
    for form in (b'{"error":"%b"}', b'{\n  "error": "%b"\n}', b'{"error":"%b"}', b'{"error":"%b"}')
]

FLAGS = [
    "-concurrentUploadLimitMB=1", "-concurrentDownloadLimitMB=1",
    f"-inflightUploadDataTimeout={PATIENCE_S}s", f"-inflightDownloadDataTimeout={PATIENCE_S}s",
]  # fmt: skip


class Framework(Volumed):
    """With every request through the framework."""

    name = "volumed without the needle lane"

    def environment(self) -> dict[str, str]:
        return super().environment() | {"VOLUMED_NEEDLE_LANE": "0"}


class Subject:
    """A server under test, with a large object on it."""

    def __init__(self, name: str, server: VolumeServer, public_port: int) -> None:
        """``name`` is also that of its data center, so that a volume can be asked for on it."""
        assert server.master is not None
        self.name = name
        self.address = server.address
        self.public = f"127.0.0.1:{public_port}"
        self.volume_id = assign(server.master.address, dataCenter=name, collection=name).fid.partition(",")[0]
        self.large = self.fid()
        assert upload(self.address, self.large, LARGE).status == 201
        self.small = self.fid()
        assert upload(self.address, self.small, b"small").status == 201

    def fid(self) -> str:
        """An unused one."""
        return f"{self.volume_id},{next(keys):04x}aabbccdd"


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Subject]]:
    home = tmp_path_factory.mktemp("throttling")
    kinds = {"reference": WeedVolume, "lane": Volumed, "framework": Framework}
    ports = {name: free_port() for name in kinds}
    with ExitStack() as stack:
        master = stack.enter_context(Master(home / "m"))
        servers = {
            name: stack.enter_context(
                kind(
                    home / name, master=master, flags=[*FLAGS, f"-port.public={ports[name]}", f"-dataCenter={name}"]
                )
            )
            for name, kind in kinds.items()
        }
        yield {name: Subject(name, server, ports[name]) for name, server in servers.items()}


@pytest.fixture(params=["reference", "lane", "framework"])
def subject(request: pytest.FixtureRequest, subjects: dict[str, Subject]) -> Subject:
    return subjects[request.param]


@contextmanager
def upload_in_flight(subject: Subject, announced: int = 2 * LIMIT) -> Iterator[Client]:
    """A client that is asked for its body and does not send it."""
    with connect(subject.address) as (client,):
        client.ask("PUT", subject.fid(), "Expect: 100-continue", length=announced)
        assert client.receive_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        yield client


@contextmanager
def download_in_flight(subject: Subject) -> Iterator[Client]:
    """A client that reads the head of a large answer and no more."""
    with connect(subject.address) as (client,):
        client.ask("GET", subject.large)
        assert client.receive_head().startswith(b"HTTP/1.1 200 ")
        yield client


def texts(clients: list[Client]) -> list[tuple[int, bytes, str | None]]:
    answers: list[Response] = [client.answer() for client in clients]
    return [(answer.status, answer.body, answer.headers["Content-Type"]) for answer in answers]


def test_what_finds_no_room_is_refused_in_the_end(subjects: dict[str, Subject]) -> None:
    """By all servers, in both directions, at once, since each takes its time."""
    with ExitStack() as stack:
        uploads = [ask_for_uploads(stack, subject) for subject in subjects.values()]
        downloads = [ask_for_downloads(stack, subject) for subject in subjects.values()]
        assert not any(client.hears(QUIET_S / 8) for clients in (*uploads, *downloads) for client in clients)
        for subject, up, down in zip(subjects.values(), uploads, downloads, strict=True):
            assert texts(up) == UPLOADS_REFUSED, subject.name
            # Beside its data a needle holds its name, here the file id, and 12 bytes.
            size = len(LARGE) + len(subject.large) + 12
            tail = f"because inflight download data {size} \\u003e 1048576, and wait timeout"
            plain = f'{{"error":"request /{subject.small} {tail}"}}'.encode()
            pretty = f'{{\n  "error": "request /{UNKNOWN} x {tail}"\n}}'.encode()
            expected = [(429, body, "application/json") for body in (plain, b"", pretty, plain, plain)]
            assert texts(down) == expected, subject.name


def ask_for_uploads(stack: ExitStack, subject: Subject) -> list[Client]:
    stack.enter_context(upload_in_flight(subject))
    clients = stack.enter_context(connect(subject.address, 4))
    clients[0].ask("PUT", subject.fid(), body=b"12345", length=5)
    clients[1].ask("POST", f"{subject.fid()}?pretty=1", "Content-Type: text/plain", body=b"12345", length=5)
    clients[2].ask("PUT", "nonsense", body=b"12345", length=5)
    clients[3].ask("PUT", subject.fid(), "Expect: 100-continue", length=5)
    return clients


def ask_for_downloads(stack: ExitStack, subject: Subject) -> list[Client]:
    stack.enter_context(download_in_flight(subject))
    clients = stack.enter_context(connect(subject.address, 4))
    clients += stack.enter_context(connect(subject.public))
    clients[0].ask("GET", subject.small)
    clients[1].ask("HEAD", subject.small)
    clients[2].ask("GET", f"{UNKNOWN}%20x?pretty=1")
    clients[3].ask("GET", f"{subject.small}?proxied=true")
    clients[4].ask("GET", subject.small)
    return clients


class TestUploads:
    def test_replicas_reads_and_deletes_do_not_wait(self, subject: Subject) -> None:
        fid = subject.fid()
        with upload_in_flight(subject):
            assert upload(subject.address, fid, b"data", query="type=replicate").status == 201
            assert get(subject.address, f"/{fid}").body == b"data"
            assert delete(subject.address, f"{fid}?type=replicate").status == 202

    @pytest.mark.parametrize("how", ["completed", "aborted"])
    def test_room_is_made_by_an_upload_that_is(self, subject: Subject, how: str) -> None:
        with upload_in_flight(subject) as client, connect(subject.address, 4) as waiting:
            fids = [subject.fid() for _ in waiting]
            for waiter, fid in zip(waiting, fids, strict=True):
                waiter.ask("PUT", fid, body=b"12", length=5)
            assert not any(waiter.hears(QUIET_S / 4) for waiter in waiting)
            if how == "completed":
                client.send(bytes(2 * LIMIT))
                assert client.answer().status == 201
            else:
                client.close()
            for waiter in waiting:
                waiter.send(b"345")
            assert [waiter.answer().status for waiter in waiting] == [201] * 4
        assert [get(subject.address, f"/{fid}").body for fid in fids] == [b"12345"] * 4

    def test_a_replica_counts(self, subject: Subject) -> None:
        with connect(subject.address, 2) as (replica, waiter):
            replica.ask("PUT", f"{subject.fid()}?type=replicate", "Expect: 100-continue", length=2 * LIMIT)
            replica.receive_head()
            waiter.ask("PUT", subject.fid(), body=b"12345", length=5)
            assert not waiter.hears(QUIET_S)
            replica.close()
            assert waiter.answer().status == 201

    def test_exactly_the_limit_is_not_over_it(self, subject: Subject) -> None:
        with upload_in_flight(subject, LIMIT), upload_in_flight(subject, LIMIT), connect(subject.address) as (waiter,):
            waiter.ask("PUT", subject.fid(), body=b"12345", length=5)
            assert not waiter.hears(QUIET_S)


class TestDownloads:
    def test_what_does_not_wait(self, subject: Subject) -> None:
        with download_in_flight(subject):
            assert get(subject.address, "/nonsense")[::2] == (400, b"")
            assert get(subject.address, "/healthz").status == 200
            fid = subject.fid()
            assert upload(subject.address, fid, b"data").status == 201
            assert delete(subject.address, fid).status == 202

    def test_a_client_that_closes_its_side_gives_up(self, subject: Subject) -> None:
        with download_in_flight(subject), connect(subject.address) as (waiter,):
            waiter.ask("GET", subject.small)
            assert not waiter.hears(QUIET_S)
            waiter.close_sending()
            answer = waiter.answer()
        assert (answer.status, answer.body, answer.headers["Content-Type"]) == (499, b"", None)

    @pytest.mark.parametrize("how", ["read", "aborted"])
    def test_room_is_made_by_a_download_that_is(self, subject: Subject, how: str) -> None:
        with download_in_flight(subject) as client, connect(subject.address, 4) as waiting:
            for waiter in waiting:
                waiter.ask("GET", subject.small)
            assert not any(waiter.hears(QUIET_S / 4) for waiter in waiting)
            if how == "aborted":
                client.close()
            else:
                left = len(LARGE)
                while left:
                    left -= len(client.socket.recv(min(left, 1 << 20)))
            assert [waiter.answer().body for waiter in waiting] == [b"small"] * 4

    def test_what_is_with_the_kernel_is_not_in_flight(self, subject: Subject) -> None:
        fid = subject.fid()
        assert upload(subject.address, fid, LARGE[: 3 * LIMIT // 2]).status == 201
        with connect(subject.address) as (client,):
            client.ask("GET", fid)
            client.receive_head()
            assert get(subject.address, f"/{subject.small}").body == b"small"


def test_a_copy_elsewhere_is_used(tmp_path) -> None:
    """Three servers with the same volume, each over its limit in turn."""
    flags = ["-concurrentDownloadLimitMB=1", "-inflightDownloadDataTimeout=60s"]
    with (
        Master(tmp_path / "m") as master,
        WeedVolume(tmp_path / "w", master=master, flags=flags) as reference,
        Volumed(tmp_path / "p", master=master, flags=flags) as proxy,
        Volumed(tmp_path / "l", master=master, flags=[*flags, "-readMode=local"]) as local,
    ):
        volume_id = get_json(master.address, "/dir/assign?replication=002")["fid"].partition(",")[0]
        large, small = f"{volume_id},0aabbccdd", f"{volume_id},1aabbccdd"
        assert upload(reference.address, large, LARGE).status == 201
        assert upload(reference.address, small, b"small").status == 201
        for server in (reference, proxy, local):
            with connect(server.address) as (client,):
                client.ask("GET", large)
                client.receive_head()
                answer = get(server.address, f"/{small.replace(',', '/')}/name.txt?width=5&collection=")
            if server is local:
                assert answer.status == 301
                host, _, path = answer.headers["Location"].removeprefix("http://").partition("/")
                assert host in (reference.address, proxy.address)
                assert path == f"{small}?proxied=true"
            else:
                assert (answer.status, answer.body) == (200, b"small")
                assert "name.txt" in answer.headers["Content-Disposition"]
