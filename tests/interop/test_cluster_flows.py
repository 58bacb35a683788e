"""A cluster of real processes around the node: the command line tools, a filer and an S3 gateway store and read."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.client import Config
from botocore.exceptions import ClientError

from tests.cluster import S3, WEED, Filer, Master, Volumed, VolumeServer, WeedVolume
from tests.web import get, get_json

pytestmark = pytest.mark.interop

BENCHMARK_N = int(os.environ.get("VOLUMED_BENCH_N", "2000"))
MIB = 1 << 20
PART = 5 * MIB
TOOL_TIMEOUT_S = 240


@pytest.fixture(scope="module", params=[WeedVolume, Volumed], ids=lambda kind: kind.name)
def master(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    """A master whose only volume server is of the kind under test."""
    home = tmp_path_factory.mktemp("cluster")
    kind: type[VolumeServer] = request.param
    with Master(home / "m") as started, kind(home / "v", master=started, volumes_max=60):
        yield started


@pytest.fixture(scope="module")
def filer(master: Master, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filer]:
    with Filer(tmp_path_factory.mktemp("filer"), master=master) as started:
        yield started


@pytest.fixture(scope="module")
def s3(filer: Filer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of an anonymous gateway, and a bucket."""
    with S3(tmp_path_factory.mktemp("s3"), filer=filer) as gateway:
        client = boto3.client(
            "s3", endpoint_url=f"http://{gateway.address}", region_name="us-east-1",
            config=Config(signature_version=UNSIGNED, retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
        )  # fmt: skip
        client.create_bucket(Bucket="bucket")
        yield client
        client.close()


def content(length: int, seed: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(length)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def weed(master: Master, directory: Path, *arguments: str) -> str:
    """Run a client subcommand of ``weed`` and return what it printed."""
    result = subprocess.run(
        [str(WEED), *arguments], cwd=directory, env=master.environment(), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=TOOL_TIMEOUT_S, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.parametrize(
    ("length", "chunk_mb", "chunked"),
    [(100, 4, False), (10 * MIB, 0, False), (10 * MIB, 2, True)],
    ids=["small", "10 MiB whole", "10 MiB in chunks"],
)
def test_weed_upload_and_download(master: Master, tmp_path: Path, length: int, chunk_mb: int, chunked: bool) -> None:
    data = content(length, seed=length + chunk_mb)
    (tmp_path / "file.bin").write_bytes(data)
    printed = weed(master, tmp_path, "upload", f"-master={master.peer_address}", f"-maxMB={chunk_mb}", "file.bin")
    stored = json.loads(printed)[0]
    assert stored["size"] == length
    address, _, fid = stored["url"].partition("/")
    answer = get(address, f"/{fid}")
    assert sha256(answer.body) == sha256(data)
    assert answer.headers["X-File-Store"] == ("chunked" if chunked else None)

    target = tmp_path / "out"
    target.mkdir()
    weed(master, tmp_path, "download", f"-master={master.peer_address}", f"-dir={target}", fid)
    assert sha256((target / "file.bin").read_bytes()) == sha256(data)


def benchmark(master: Master, directory: Path, phase: str) -> tuple[str, str]:
    """One phase of ``weed benchmark``: how many requests were completed, and how many failed."""
    printed = weed(
        master, directory, "benchmark", f"-master={master.peer_address}", "-c=16", f"-n={BENCHMARK_N}", phase,
        f"-list={directory / 'ids'}",
    )  # fmt: skip
    completed = re.search(r"Completed requests:\s+(\d+)", printed)
    failed = re.search(r"Failed requests:\s+(\d+)", printed)
    assert completed, printed
    assert failed, printed
    return completed[1], failed[1]


def test_weed_benchmark_has_no_failed_request(master: Master, tmp_path: Path) -> None:
    assert benchmark(master, tmp_path, "-writeOnly") == (str(BENCHMARK_N), "0")
    read = ("0", "0")
    for _ in range(3):
        # On a busy machine the tool may start to read before it has set how much, and then reads nothing.
        if read == ("0", "0"):
            read = benchmark(master, tmp_path, "-readOnly")
    assert read == (str(BENCHMARK_N), "0")


@pytest.mark.usefixtures("filer")
@pytest.mark.parametrize("length", [0, 1000, 3 * MIB, 9 * MIB + 17])
def test_put_get_range_head(s3: Any, length: int) -> None:
    data, key = content(length, seed=length), f"plain/{length}"
    s3.put_object(Bucket="bucket", Key=key, Body=data, ContentType="application/x-test", Metadata={"who": "me"})
    answer = s3.get_object(Bucket="bucket", Key=key)
    assert sha256(answer["Body"].read()) == sha256(data)
    assert answer["ContentType"] == "application/x-test"
    assert answer["Metadata"] == {"who": "me"}
    assert s3.head_object(Bucket="bucket", Key=key)["ContentLength"] == length
    if length:
        first, last = length // 3, length // 3 + length // 2
        part = s3.get_object(Bucket="bucket", Key=key, Range=f"bytes={first}-{last}")
        assert part["ContentRange"] == f"bytes {first}-{last}/{length}"
        assert sha256(part["Body"].read()) == sha256(data[first : last + 1])


def test_multipart_upload(s3: Any) -> None:
    parts = [content(PART, seed=number) for number in (1, 2, 3)] + [content(1234, seed=4)]
    upload = s3.create_multipart_upload(Bucket="bucket", Key="multi")["UploadId"]
    tags = [
        s3.upload_part(Bucket="bucket", Key="multi", UploadId=upload, PartNumber=number, Body=part)["ETag"]
        for number, part in enumerate(parts, 1)
    ]
    s3.complete_multipart_upload(
        Bucket="bucket", Key="multi", UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]},
    )  # fmt: skip
    assert sha256(s3.get_object(Bucket="bucket", Key="multi")["Body"].read()) == sha256(b"".join(parts))
    across = s3.get_object(Bucket="bucket", Key="multi", Range=f"bytes={PART - 5}-{PART + 4}")
    assert across["Body"].read() == parts[0][-5:] + parts[1][:5]


def test_managed_transfer_in_parallel_parts(s3: Any, tmp_path: Path) -> None:
    data = content(3 * PART + 99, seed=9)
    (tmp_path / "file").write_bytes(data)
    transfer = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
    s3.upload_file(str(tmp_path / "file"), "bucket", "managed", Config=transfer)
    s3.download_file("bucket", "managed", str(tmp_path / "back"), Config=transfer)
    assert sha256((tmp_path / "back").read_bytes()) == sha256(data)


def test_copy_list_delete(s3: Any) -> None:
    data = content(2 * MIB, seed=77)
    s3.put_object(Bucket="bucket", Key="tree/a", Body=data)
    s3.copy_object(Bucket="bucket", Key="tree/b", CopySource="bucket/tree/a")
    listed = s3.list_objects_v2(Bucket="bucket", Prefix="tree/")["Contents"]
    assert [(entry["Key"], entry["Size"]) for entry in listed] == [("tree/a", 2 * MIB), ("tree/b", 2 * MIB)]

    s3.delete_object(Bucket="bucket", Key="tree/a")
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket="bucket", Key="tree/a")
    assert sha256(s3.get_object(Bucket="bucket", Key="tree/b")["Body"].read()) == sha256(data)

    s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "tree/b"}]})
    assert "Contents" not in s3.list_objects_v2(Bucket="bucket", Prefix="tree/")


def test_overwritten_object_reads_back(s3: Any) -> None:
    for round_number in range(3):
        data = content(64 << 10, seed=500 + round_number)
        s3.put_object(Bucket="bucket", Key="again", Body=data)
        assert sha256(s3.get_object(Bucket="bucket", Key="again")["Body"].read()) == sha256(data)


def test_the_filer_serves_what_the_gateway_stored(s3: Any, filer: Filer) -> None:
    s3.put_object(Bucket="bucket", Key="shared", Body=b"object")
    assert get(filer.address, "/buckets/bucket/shared").body == b"object"
    assert get_json(filer.address, "/buckets/bucket/?metadata=true&pretty=y")
