"""Object stores: backends, the S3 client, transfers (docs/spec/grpc.md 5.1, 5.5)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_s3 import FakeS3
from volumed.bus.events import BackendSettings
from volumed.errors import ClientError
from volumed.remote import s3, transfer
from volumed.remote.backends import Backends
from volumed.remote.errors import RemoteError
from volumed.remote.remote_conf import check_gcs_credentials, endpoint_of, s3_settings
from volumed.remote.s3 import S3Client, S3Settings
from volumed.remote.transfer import Progress, download, part_length, upload
from volumed.storage.fileio import FileIO
from volumed.wire.remote_pb2 import RemoteConf

MIB = 1 << 20


@pytest.fixture
def store() -> Iterator[FakeS3]:
    with FakeS3() as fake:
        yield fake


def settings(store: FakeS3, **changes: object) -> S3Settings:
    return S3Settings(store.endpoint, access_key="key", secret_key="secret")._replace(**changes)


def told(store: FakeS3, backend_id: str = "default", **properties: str) -> BackendSettings:
    named = {"endpoint": store.endpoint, "bucket": "b", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
    return BackendSettings("s3", backend_id, named | properties)


# Backends


def test_a_default_backend_has_two_names_and_the_first_of_a_name_stays(store: FakeS3) -> None:
    backends = Backends()
    unknown = BackendSettings("rclone", "x", {})
    backends.register([told(store), told(store, "cold"), told(store, bucket="other"), unknown])
    assert backends.names == ["s3.default", "s3", "s3.cold"]
    assert backends.destination("s3") is backends.find("s3", "default")
    assert backends.destination("s3").bucket == "b"  # type: ignore[union-attr]
    assert backends.destination("s3.cold.x") is None


@pytest.mark.parametrize(
    ("text", "wanted", "parts"), [("", 0, 5), ("3", 0, 3), ("3", 7, 7), ("x", -1, 5), ("0", 999, 16)]
)
def test_parts_at_a_time(store: FakeS3, text: str, wanted: int, parts: int) -> None:
    backends = Backends()
    backends.register([told(store, upload_concurrency=text)])
    assert backends.destination("s3").upload_concurrency(wanted) == parts  # type: ignore[union-attr]


def test_a_read_that_fails_says_of_what(store: FakeS3) -> None:
    backends = Backends()
    backends.register([told(store)])
    with pytest.raises(RemoteError) as caught:
        backends.destination("s3").read("k", 0, 8)  # type: ignore[union-attr]
    start = "bucket b GetObject k: NoSuchKey: no such key\n\tstatus code: 404, request id: "
    assert caught.value.text.startswith(start)


# The client


def test_requests_are_signed_and_name_the_reference(store: FakeS3) -> None:
    client = S3Client(settings(store, region="r"))
    client.put("b", "a b/ü", b"content", "GLACIER")  # type: ignore[arg-type]
    method, path, headers = store.asked[0]
    assert (method, path) == ("PUT", "/b/a%20b/%C3%BC")
    assert "Credential=key/" in headers["authorization"]
    assert "/r/s3/aws4_request" in headers["authorization"]
    assert headers["x-amz-storage-class"] == "GLACIER"
    assert headers["user-agent"].startswith("SeaweedFS/")
    assert headers["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD"
    assert client.get("b", "a b/ü", 2, 3) == b"nte"
    assert client.get("b", "a b/ü", 5, 30) == b"nt"


def test_without_keys_requests_are_not_signed(store: FakeS3) -> None:
    store.objects["b/k"] = b"content"
    client = S3Client(S3Settings(store.endpoint, anonymous=True))
    assert client.size("b", "k") == 7
    assert "authorization" not in store.asked[0][2]


def test_buckets_may_be_host_names(store: FakeS3) -> None:
    chosen = []

    def choose(host: str, port: int) -> str:
        chosen.append((host, port))
        return "127.0.0.1"

    port = int(store.endpoint.rpartition(":")[2])
    client = S3Client(settings(store, endpoint=f"http://objects.example:{port}", path_style=False), choose)
    client.put("b", "k", b"content")  # type: ignore[arg-type]
    assert chosen == [("b.objects.example", port)]
    assert store.asked[0][1] == "/k"
    assert store.asked[0][2]["host"] == f"b.objects.example:{port}"


def test_errors_have_code_and_message(store: FakeS3) -> None:
    store.failing = lambda _method, _path: 503
    with pytest.raises(RemoteError, match="^Whatever: because & so\n\tstatus code: 503") as caught:
        S3Client(settings(store)).delete("b", "k")
    assert caught.value.may_pass


def test_redirects_are_not_followed(store: FakeS3) -> None:
    store.failing = lambda _method, _path: 307
    with pytest.raises(RemoteError, match="status code: 307"):
        S3Client(settings(store)).get("b", "k", 0, 1)
    assert len(store.asked) == 1


def test_an_endpoint_that_says_nothing_is_given_up(store: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_SILENCE_S", 0.05)
    store.hanging.set()
    with pytest.raises(RemoteError, match="^RequestError: send request failed"):
        S3Client(settings(store)).get("b", "k", 0, 1)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://", "ftp://x", "://bad"])
def test_bad_endpoints_are_errors(endpoint: str) -> None:
    with pytest.raises(RemoteError):
        S3Client(S3Settings(endpoint, access_key="k", secret_key="s")).size("b", "k")


# Transfers


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_PART_BYTES", MIB)
    monkeypatch.setattr(transfer, "_PAUSE_S", 0.0)


def content_file(path: Path, length: int) -> bytes:
    content = os.urandom(length)
    path.write_bytes(content)
    return content


@pytest.mark.parametrize("length", [8, MIB, 3 * MIB + 5])
@pytest.mark.usefixtures("small_parts")
def test_there_and_back(store: FakeS3, tmp_path: Path, length: int) -> None:
    content, files = content_file(tmp_path / "there", length), FileIO()
    backends = Backends()
    backends.register([told(store)])
    backend = backends.destination("s3")
    assert backend is not None
    progress = Progress(length)
    upload(backend, "k", files, files.open(str(tmp_path / "there")), progress, 2)
    assert progress.done == length
    assert store.objects["b/k"] == content
    assert not store.uploads
    progress = Progress(length)
    download(backend, "k", files, files.open(str(tmp_path / "back"), create=True), progress, 2)
    assert (tmp_path / "back").read_bytes() == content
    assert progress.done == length


@pytest.mark.usefixtures("small_parts")
def test_what_may_pass_is_tried_again_and_what_may_not_is_not(store: FakeS3, tmp_path: Path) -> None:
    content_file(tmp_path / "file", 3 * MIB)
    backends = Backends()
    backends.register([told(store)])
    backend, files = backends.destination("s3"), FileIO()
    assert backend is not None
    file = files.open(str(tmp_path / "file"))
    statuses = [503, 503]
    store.failing = lambda _method, path: statuses.pop() if "partNumber=2" in path and statuses else 0
    upload(backend, "k", files, file, Progress(3 * MIB), 1)
    assert len(store.objects["b/k"]) == 3 * MIB
    store.objects.clear()
    store.failing = lambda _method, path: 403 if "partNumber=2" in path else 0
    with pytest.raises(RemoteError, match="status code: 403"):
        upload(backend, "k", files, file, Progress(3 * MIB), 1)
    assert not store.objects
    assert not store.uploads, "the parts are dropped"


@pytest.mark.usefixtures("small_parts")
def test_a_transfer_can_be_stopped(store: FakeS3, tmp_path: Path) -> None:
    content_file(tmp_path / "file", 2 * MIB)
    backends = Backends()
    backends.register([told(store)])
    backend, files, progress = backends.destination("s3"), FileIO(), Progress(2 * MIB)
    assert backend is not None
    progress.stop()
    with pytest.raises(RemoteError, match="stopped"):
        upload(backend, "k", files, files.open(str(tmp_path / "file")), progress, 2)
    assert not store.objects


def test_no_object_has_more_than_a_thousand_parts() -> None:
    assert [part_length(size) // MIB for size in (1, 64_000 * MIB, 64_001 * MIB, 8 << 40)] == [64, 64, 256, 16384]


# Descriptions by callers


@pytest.mark.parametrize(
    ("conf", "environment", "expected"),
    [
        ({"type": "s3", "s3_endpoint": "e", "s3_force_path_style": True}, {}, ("e", "", "", "", True)),
        ({"type": "aliyun", "aliyun_region": "r"}, {"ALICLOUD_ACCESS_KEY_ID": "k"}, ("", "r", "k", "", False)),
        ({"type": "tencent", "tencent_secret_key": "s"}, {"COS_SECRETKEY": "x"}, ("", "us-west-2", "", "s", True)),
        ({"type": "storj", "storj_access_key": "k"}, {}, ("", "us-west-2", "k", "", True)),
        ({"type": "filebase"}, {"AWS_SECRET_ACCESS_KEY": "s"}, ("", "us-east-1", "", "s", True)),
    ],
    ids=["s3", "aliyun", "tencent", "storj", "filebase"],
)
def test_which_fields_count(conf: dict[str, str], environment: dict[str, str], expected: tuple[object, ...]) -> None:
    found = s3_settings(RemoteConf(**conf), environment)  # type: ignore[arg-type]
    assert found is not None
    assert found[:5] == expected


def test_types_without_the_protocol() -> None:
    assert s3_settings(RemoteConf(type="gcs")) is None
    gcs = RemoteConf(type="gcs", gcs_google_application_credentials='{"token_uri":"http://t","type":"x"}')
    assert endpoint_of(gcs) == "http://t"
    with pytest.raises(ClientError, match='gcs credential type "x" is not accepted here'):
        check_gcs_credentials(gcs)
    with pytest.raises(ClientError, match="parse gcs credentials: invalid character 'b'"):
        check_gcs_credentials(RemoteConf(type="gcs", gcs_google_application_credentials="{bad"))
    check_gcs_credentials(RemoteConf(type="gcs"))
