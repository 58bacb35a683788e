"""Settings of gRPC's TLS, the common-name rule, and channels to servers with all kinds of certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from tests.grpc_tls_kit import GrpcAuthority, channel_as
from volumed.config.disks import ConfigError
from volumed.grpc.channels import Channels, name_in_certificate
from volumed.grpc.credentials import CommonNames, add_port
from volumed.grpc.handlers import refusal
from volumed.grpc.streams import CallThreads
from volumed.security.ciphers import grpc_ciphers
from volumed.security.grpc_tls import check_grpc_tls, grpc_client_secrets, grpc_server_secrets
from volumed.security.settings import GrpcIdentity, SecuritySettings

HOST = "127.0.0.1"
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> GrpcAuthority:
    return GrpcAuthority(tmp_path_factory.mktemp("ca"))


def identity(authority: GrpcAuthority, name: str = "node", **fields: str) -> GrpcIdentity:
    own = authority.issue(name)
    return GrpcIdentity(**({"ca": str(authority.ca), "cert": str(own.cert), "key": str(own.key)} | fields))  # type: ignore[arg-type]


class TestSettings:
    def test_nothing_set_is_plain(self) -> None:
        assert grpc_server_secrets(GrpcIdentity()) is None
        assert grpc_client_secrets(GrpcIdentity()) is None

    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            ({"ca": "a"}, "grpc.ca is set, but grpc.volume.cert and grpc.volume.key for TLS of gRPC not"),
            ({"cert": "a", "key": "b"}, "grpc.volume.cert is set, but grpc.ca for TLS of gRPC not"),
            ({"ca": "a", "cert": "b"}, "grpc.ca is set, but grpc.volume.key for TLS of gRPC not"),
            (
                {"allowed_common_names": ("a",)},
                "grpc.volume.allowed_commonNames is set, but grpc.ca and grpc.volume.cert and grpc.volume.key for TLS "
                "of gRPC not",
            ),
            ({"ca": "/none", "cert": "b", "key": "c"}, "open /none: No such file or directory"),
        ],
        ids=["authority alone", "no authority", "no key", "names alone", "no file"],
    )
    def test_half_a_protection_is_refused(self, given: dict[str, str], complaint: str) -> None:
        with pytest.raises(ConfigError) as failure:
            check_grpc_tls(SecuritySettings(grpc=GrpcIdentity(**given)))  # type: ignore[arg-type]
        assert str(failure.value) == complaint

    def test_clients_have_an_identity_of_their_own_if_it_is_whole(self, authority: GrpcAuthority) -> None:
        other = authority.issue("other")
        whole = identity(authority, client_cert=str(other.cert), client_key=str(other.key))
        half = identity(authority, client_cert=str(other.cert))
        shown = [secrets.current.cert for made in (whole, half) if (secrets := grpc_client_secrets(made))]
        assert shown == [other.cert.read_bytes(), Path(half.cert).read_bytes()]

    @pytest.mark.parametrize(
        ("names", "min_version", "suites"),
        [
            ((), "", ""),
            ((), "TLS 1.2", ""),
            (("TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_AES_128_GCM_SHA256"), "TLS 1.0", "AES128-SHA"),
            ((), "TLS 1.3", "ECDHE-PSK-AES128-CBC-SHA"),
            (("TLS_AES_128_GCM_SHA256",), "", "ECDHE-PSK-AES128-CBC-SHA"),
        ],
        ids=["library's choice", "1.2", "a suite", "1.3", "a suite of 1.3"],
    )
    def test_limits(self, names: tuple[str, ...], min_version: str, suites: str) -> None:
        assert grpc_ciphers(names, min_version) == suites

    def test_a_suite_that_the_library_lacks(self) -> None:
        with pytest.raises(ConfigError, match="gRPC has no TLS_RSA_WITH_AES_128_CBC_SHA256"):
            grpc_ciphers(("TLS_RSA_WITH_AES_128_CBC_SHA256",), "")


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("one", True), ("two", True), ("On", False), ("a.example.com", True), ("example.com", False), ("", False)],
)
def test_common_names(name: str, allowed: bool) -> None:
    names = CommonNames(GrpcIdentity(allowed_common_names=("one", "two"), allowed_wildcard_domain=".example.com"))
    assert names.allows(name) is allowed


def test_without_names_nothing_is_checked() -> None:
    assert CommonNames.of(GrpcIdentity(ca="ca")) == []
    assert not CommonNames(GrpcIdentity(allowed_common_names=("a",))).allows("")


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        ({"subjectAltName": (("DNS", "a.b"), ("DNS", "c"))}, "a.b"),
        ({"subjectAltName": (("DNS", "*.b"),)}, "any.b"),
        ({"subjectAltName": (("IP Address", "10.0.0.1"),)}, "10.0.0.1"),
        ({"subjectAltName": (("IP Address", "0:0:0:0:0:0:0:1"),)}, "::1"),
        ({"subject": ((("organizationName", "o"),), (("commonName", "Volume 1"),))}, "Volume 1"),
    ],
    ids=["name", "wildcard", "address", "address of IPv6", "common name"],
)
def test_name_in_certificate(certificate: dict[str, object], name: str) -> None:
    assert name_in_certificate(certificate) == name


def test_a_certificate_may_name_nobody() -> None:
    with pytest.raises(ValueError, match="nobody"):
        name_in_certificate({"subject": ((("organizationName", "o"),),)})


class Refuses(grpc.GenericRpcHandler):
    """Answers every call with an error of its own, which shows that the call has arrived."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return refusal(grpc.StatusCode.DATA_LOSS, handler_call_details.method)


@pytest.fixture
def served(authority: GrpcAuthority) -> Iterator[tuple[grpc.Server, GrpcIdentity]]:
    """A server that nobody listens for yet, and what it shows."""
    server = grpc.server(CallThreads())
    server.add_generic_rpc_handlers((Refuses(),))
    yield server, identity(authority, "server")
    server.stop(None).wait()


def outcome(channel: grpc.Channel) -> tuple[grpc.StatusCode, str]:
    with channel, pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary("/a.B/C")(b"", timeout=TIMEOUT_S)
    return failure.value.code(), failure.value.details() or ""


def listen(server: grpc.Server, shown: GrpcIdentity) -> str:
    secrets = grpc_server_secrets(shown)
    port = add_port(server, f"{HOST}:0", secrets)
    server.start()
    return f"{HOST}:0.{port}"


ISSUED: dict[str, tuple[list[str], str | None]] = {
    "other host": (["elsewhere.example"], None),
    "wildcard": (["*.example.com"], "x"),
    "address": (["10.1.2.3"], None),
}


@pytest.mark.parametrize("kind", ISSUED)
def test_whose_certificate_it_is_does_not_matter(
    served: tuple[grpc.Server, GrpcIdentity], kind: str, tmp_path: Path
) -> None:
    """Only who signed it; clusters share one certificate."""
    ca = trustme.CA()
    hosts, common_name = ISSUED[kind]
    issued = ca.issue_cert(*hosts, common_name=common_name)
    ca.cert_pem.write_to_path(str(tmp_path / "ca"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key"))
    shown = GrpcIdentity(str(tmp_path / "ca"), str(tmp_path / "cert"), str(tmp_path / "key"))
    address = listen(served[0], shown)
    assert outcome(Channels(shown).open(address)) == (grpc.StatusCode.DATA_LOSS, "/a.B/C")


@pytest.mark.parametrize("is_plain", [True, False], ids=["plain", "tls"])
def test_an_address_that_was_checked_is_used_instead_of_the_name(
    served: tuple[grpc.Server, GrpcIdentity], is_plain: bool
) -> None:
    server, secured = served
    shown = GrpcIdentity() if is_plain else secured
    address = listen(server, shown).replace(HOST, "nowhere.invalid")
    channels = Channels(shown)
    assert outcome(channels.open(address))[0] is grpc.StatusCode.UNAVAILABLE
    assert outcome(channels.open(address, [HOST])) == (grpc.StatusCode.DATA_LOSS, "/a.B/C")


def test_who_signed_it_matters(served: tuple[grpc.Server, GrpcIdentity], tmp_path: Path) -> None:
    address = listen(*served)
    stranger = identity(GrpcAuthority(tmp_path / "other"))
    assert outcome(Channels(stranger).open(address))[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("plain_side", ["server", "client"])
def test_plain_text_and_tls_do_not_meet(served: tuple[grpc.Server, GrpcIdentity], plain_side: str) -> None:
    server, secured = served
    sides = (GrpcIdentity(), secured) if plain_side == "server" else (secured, GrpcIdentity())
    address = listen(server, sides[0])
    assert outcome(Channels(sides[1]).open(address))[0] is grpc.StatusCode.UNAVAILABLE


def test_nobody_listens(authority: GrpcAuthority) -> None:
    """Opening is no error; the first call is."""
    assert outcome(Channels(identity(authority)).open(f"{HOST}:1.1"))[0] is grpc.StatusCode.UNAVAILABLE


def test_channels_show_what_the_files_are_now(authority: GrpcAuthority) -> None:
    """A client that was refused for its name is let in with a new certificate in the same files."""
    own = identity(authority, "renamed")
    server = grpc.server(CallThreads(), interceptors=CommonNames.of(GrpcIdentity(allowed_common_names=("new",))))
    server.add_generic_rpc_handlers((Refuses(),))
    channels = Channels(own)
    address = listen(server, own)
    try:
        assert outcome(channels.open(address)) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "Authenticate: invalid subject client common name: renamed",
        )
        fresh = authority.issue("new")
        fresh.key.replace(own.key)
        fresh.cert.replace(own.cert)
        assert outcome(channels.open(address))[0] is grpc.StatusCode.DATA_LOSS
    finally:
        server.stop(None).wait()


def test_a_client_by_itself(served: tuple[grpc.Server, GrpcIdentity], authority: GrpcAuthority) -> None:
    address = listen(*served).replace(":0.", ":")
    assert outcome(channel_as(address, authority.ca, authority.issue("a")))[0] is grpc.StatusCode.DATA_LOSS
    assert outcome(channel_as(address, authority.ca, None))[0] is grpc.StatusCode.UNAVAILABLE


def test_no_other_module_opens_channels() -> None:
    """One that does would speak plain text in a cluster with TLS."""
    root = Path(__file__).parents[2]
    opening = [
        path.relative_to(root).as_posix()
        for package in ("volumed", "supervisor", "workers")
        for path in (root / package).rglob("*.py")
        if "secure_channel(" in path.read_text()
    ]
    assert opening == ["volumed/grpc/channels.py"]
