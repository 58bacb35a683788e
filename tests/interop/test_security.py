"""Tokens and white list: the same requests to ``weed volume`` and to volumed with and without its needle lane.

What is expected is written down, and the reference is held to it, too (docs/spec/http.md 1.7, 8.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple

import grpc
import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.tokens import bearer, encode, token
from tests.web import request, upload
from volumed.wire import volume_server_pb2 as pb
from volumed.wire import volume_server_pb2_grpc

pytestmark = pytest.mark.interop

WRITE_KEY, READ_KEY = "write", "a read key that is long enough for everybody: 0123456789abcdef"
FID = "901,01aabbccdd"
VID, KEY = FID.split(",")
CONTENT = b"hello"
WRONG = (401, b'{"error":"wrong jwt"}', "application/json")
SETTINGS = f"""
[jwt.signing]
key = "{WRITE_KEY}"
[jwt.signing.read]
key = "{READ_KEY}"
"""


class ByTheFramework(Volumed):
    """Every request through falcon."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"VOLUMED_NEEDLE_LANE": "0"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[VolumeServer]]:
    home = tmp_path_factory.mktemp("security")
    kinds: dict[str, type[VolumeServer]] = {"w": WeedVolume, "v": Volumed, "f": ByTheFramework}
    with ExitStack() as stack:
        master = stack.enter_context(Master(home / "m"))
        running = [stack.enter_context(secured(kind(home / name, master=master))) for name, kind in kinds.items()]
        for server in running:
            with grpc.insecure_channel(server.grpc_address) as channel:
                stub = volume_server_pb2_grpc.VolumeServerStub(channel)
                stub.AllocateVolume(pb.AllocateVolumeRequest(volume_id=int(VID), version=3), timeout=20)
            written = upload(server.address, FID, CONTENT, headers=bearer(token(FID, WRITE_KEY)))
            assert written.status == 201
        yield running


def secured(server: VolumeServer) -> VolumeServer:
    """Give a server its security.toml, in its working directory."""
    (server.home / "security.toml").write_text(SETTINGS)
    return server


def answers(
    servers: list[VolumeServer], method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
) -> list[tuple[int, bytes, str | None]]:
    found = [request(method, server.address, target, headers=headers, body=body) for server in servers]
    return [(answer.status, answer.body, answer.headers["Content-Type"]) for answer in found]


GOOD_TOKENS: dict[str, Callable[[], str]] = {
    "no times": lambda: token(FID, READ_KEY),
    "HS384": lambda: token(FID, READ_KEY, alg="HS384"),
    "HS512": lambda: token(FID, READ_KEY, alg="HS512"),
    "valid until": lambda: token(FID, READ_KEY, exp_in=600),
    "valid since": lambda: token(FID, READ_KEY, nbf_in=-600),
    "no end": lambda: token(FID, READ_KEY, exp=None, nbf=None),
    "fraction of a second": lambda: token(FID, READ_KEY, exp=99999999999.5),
    "time as text": lambda: token(FID, READ_KEY, exp="99999999999"),
    "issued in the future": lambda: token(FID, READ_KEY, iat_in=600),
    "for somebody else": lambda: token(FID, READ_KEY, aud="them", iss="us", sub="it", jti="1"),
    "without a type": lambda: encode({"alg": "HS256"}, {"fid": FID}, READ_KEY),
    "letter case of names": lambda: encode({"alg": "HS256"}, {"FID": FID}, READ_KEY),
    "long": lambda: token(FID, READ_KEY, junk="x" * 5000),
}
BAD_TOKENS: dict[str, Callable[[], str]] = {
    "none": lambda: "",
    "garbage": lambda: "garbage",
    "key of writes": lambda: token(FID, WRITE_KEY),
    "alg none": lambda: token(FID, READ_KEY, alg="none"),
    "alg none, unsigned": lambda: token(FID, READ_KEY, alg="none").rpartition(".")[0] + ".",
    "alg RS256": lambda: token(FID, READ_KEY, alg="RS256"),
    "alg ES256": lambda: token(FID, READ_KEY, alg="ES256"),
    "alg in lower case": lambda: token(FID, READ_KEY, alg="hs256"),
    "no alg": lambda: encode({"typ": "JWT"}, {"fid": FID}, READ_KEY),
    "expired": lambda: token(FID, READ_KEY, exp_in=-1),
    "expires now": lambda: token(FID, READ_KEY, exp_in=0),
    "expired in capitals": lambda: encode({"alg": "HS256"}, {"fid": FID, "EXP": 5}, READ_KEY),
    "end of time 0": lambda: token(FID, READ_KEY, exp=0),
    "no time": lambda: token(FID, READ_KEY, exp="soon"),
    "not yet": lambda: token(FID, READ_KEY, nbf_in=600),
    "other file": lambda: token(FID + "0", READ_KEY),
    "volume only": lambda: token(VID, READ_KEY),
    "empty claim": lambda: token("", READ_KEY),
    "no claim": lambda: encode({"alg": "HS256"}, {}, READ_KEY),
    "last claim wrong": lambda: encode({"alg": "HS256"}, {"fid": FID, "Fid": "1,2"}, READ_KEY),
    "number as claim": lambda: encode({"alg": "HS256"}, {"fid": 901}, READ_KEY),
    "list of claims": lambda: encode({"alg": "HS256"}, [FID], READ_KEY),
    "null": lambda: encode({"alg": "HS256"}, None, READ_KEY),
    "list as header": lambda: encode(["HS256"], {"fid": FID}, READ_KEY),
    "changed signature": lambda: token(FID, READ_KEY)[:-4] + "AAAA",
    "two parts": lambda: token(FID, READ_KEY).rpartition(".")[0],
    "four parts": lambda: token(FID, READ_KEY) + ".x",
    "padded": lambda: token(FID, READ_KEY) + "=",
    "blank before it": lambda: " " + token(FID, READ_KEY),
}


@pytest.mark.parametrize("name", GOOD_TOKENS)
def test_tokens_that_open(servers, name):
    expected = (200, CONTENT, "text/plain; charset=utf-8")
    assert answers(servers, "GET", f"/{FID}", bearer(GOOD_TOKENS[name]())) == [expected] * 3


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_tokens_that_do_not(servers, name):
    assert answers(servers, "GET", f"/{FID}", bearer(BAD_TOKENS[name]())) == [WRONG] * 3


class Source(NamedTuple):
    """Where a good token and a bad one may stand: ``{}`` is the good one."""

    status: int
    query: str = ""
    headers: Mapping[str, str] = {}


SOURCES = {
    "query": Source(200, "?jwt={}"),
    "query in capitals": Source(401, "?JWT={}"),
    "first of the query": Source(200, "?jwt={}&jwt=bad"),
    "empty query, header": Source(200, "?jwt=", {"Authorization": "Bearer {}"}),
    "bad query, header": Source(401, "?jwt=bad", {"Authorization": "Bearer {}"}),
    "query, bad header": Source(200, "?jwt={}", {"Authorization": "Bearer bad"}),
    "lower-case bearer": Source(200, headers={"Authorization": "bearer {}"}),
    "mixed-case bearer": Source(200, headers={"Authorization": "bEARer {}"}),
    "any seventh character": Source(200, headers={"Authorization": "bearer:{}"}),
    "header without bearer": Source(401, headers={"Authorization": "{}"}),
    "cookie": Source(200, headers={"Cookie": "a=b; AT={}; c=d"}),
    "quoted cookie": Source(200, headers={"Cookie": 'AT="{}"'}),
    "cookie in lower case": Source(401, headers={"Cookie": "at={}"}),
    "second cookie": Source(401, headers={"Cookie": "AT=bad; AT={}"}),
    "second after an empty one": Source(401, headers={"Cookie": "AT; AT={}"}),
    "second after an invalid one": Source(200, headers={"Cookie": "AT=\\; AT={}"}),
    "empty header, cookie": Source(200, headers={"Authorization": "Bearer ", "Cookie": "AT={}"}),
    "other scheme, cookie": Source(200, headers={"Authorization": "Basic eDp4", "Cookie": "AT={}"}),
    "bad header, cookie": Source(401, headers={"Authorization": "Bearer bad", "Cookie": "AT={}"}),
}


@pytest.mark.parametrize("name", SOURCES)
def test_where_tokens_are_looked_for(servers, name):
    source, good = SOURCES[name], token(FID, READ_KEY)
    headers = {key: value.format(good) for key, value in source.headers.items()}
    found = answers(servers, "GET", f"/{FID}{source.query.format(good)}", headers)
    assert [status for status, _, _ in found] == [source.status] * 3
    assert found == [found[0]] * 3


PATHS = [
    (f"/{VID}/{KEY}", FID, 200),
    (f"/{VID}/{KEY}/name.txt", FID, 200),
    (f"/{FID}.txt", FID, 200),
    (f"/{FID}.txt", f"{FID}.txt", 401),
    (f"/{VID},0{KEY}", FID, 401),
    (f"/{VID},0{KEY}", f"{VID},0{KEY}", 200),
    (f"/{VID},{KEY.upper()}", FID, 401),
    (f"/{VID},{KEY.upper()}", f"{VID},{KEY.upper()}", 200),
    (f"/0{FID}", FID, 401),
    (f"/{FID}_0", FID, 200),
    (f"/{FID}_0", f"{FID}_0", 401),
    (f"/{FID}_1", FID, 404),
    (f"/{FID}_1_2", f"{FID}_1", 400),
    (f"/{VID},_1", f"{VID},_1", 400),
    (f"/{VID},_1", f"{VID},", 401),
    ("/", FID, 401),
    ("/", ",", 400),
    ("/metrics", FID, 401),
    ("/ui/index.html", FID, 401),
    (f"/{VID},zz", FID, 401),
    (f"/{VID},zz", f"{VID},zz", 400),
    (f"/{VID},ffaabbccdd", f"{VID},ffaabbccdd", 404),
    ("/healthz", "", 200),
]


@pytest.mark.parametrize(("path", "claim", "status"), PATHS, ids=[f"{path} {claim}" for path, claim, _ in PATHS])
def test_claim_and_path_are_compared_as_text(servers, path, claim, status):
    found = answers(servers, "GET", path, bearer(token(claim, READ_KEY)))
    assert found == [found[0]] * 3
    assert found[0][0] == status


def test_other_forms_of_the_refusal(servers):
    assert answers(servers, "HEAD", f"/{FID}", {}) == [(401, b"", "application/json")] * 3
    pretty = b'{\n  "error": "wrong jwt"\n}'
    assert answers(servers, "GET", f"/{FID}?pretty=1", {}) == [(401, pretty, "application/json")] * 3


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GOOD_WRITE = token(FID, WRITE_KEY)
WRITES: list[tuple[str, str, Mapping[str, str], bytes, int]] = [
    ("PUT", f"/{FID}", {}, b"x", 401),
    ("POST", f"/{FID}", bearer(token(FID, READ_KEY)), b"x", 401),
    ("POST", f"/{FID}", {}, b"x" * 200_000, 401),
    ("PUT", f"/{FID}", bearer(token(FID, WRITE_KEY, exp_in=-1)), b"x", 401),
    ("PUT", f"/{FID}", bearer(GOOD_WRITE), CONTENT, 204),
    ("PUT", f"/{FID}", {"Cookie": f"AT={GOOD_WRITE}"}, CONTENT, 204),
    ("PUT", f"/{FID}?jwt={GOOD_WRITE}", {}, CONTENT, 204),
    ("PUT", f"/{FID}_1", bearer(GOOD_WRITE), b"series", 201),
    ("POST", f"/{FID}?a=%zz", {}, b"x", 400),
    ("POST", f"/x,{KEY}", {}, b"x", 400),
    ("POST", f"/{VID},zz", {}, b"x", 401),
    ("POST", f"/{VID},zz", bearer(token(f"{VID},zz", WRITE_KEY)), b"x", 400),
    ("POST", f"/{FID}", FORM, b"jwt=" + GOOD_WRITE.encode(), 401),
    ("DELETE", f"/{FID}", {}, b"", 401),
    ("DELETE", f"/{FID}", bearer(token(FID, READ_KEY)), b"", 401),
    ("DELETE", f"/{VID},zz", {}, b"", 400),
    ("DELETE", f"/x,{KEY}", {}, b"", 401),
    ("DELETE", f"/{FID}_1", bearer(GOOD_WRITE), b"", 202),
    ("OPTIONS", f"/{FID}", {}, b"", 200),
    ("PATCH", f"/{FID}", {}, b"", 400),
]


@pytest.mark.parametrize(("method", "target", "headers", "body", "status"), WRITES, ids=range(len(WRITES)))
def test_writes_and_deletes(servers, method, target, headers, body, status):
    found = answers(servers, method, target, headers, body)
    assert found == [found[0]] * 3
    assert found[0][0] == status
