"""Where callers may send the node (docs/spec/grpc.md 3.28): one table for peers, one for object stores."""

from __future__ import annotations

import pytest

from volumed.errors import ClientError
from volumed.security.endpoints import check_peer_target, check_remote_endpoint

ADDRESSES = [
    ("169.254.169.254", "targets instance metadata service 169.254.169.254"),
    ("127.0.0.1", "resolves to loopback address 127.0.0.1"),
    ("127.9.9.9", "resolves to loopback address 127.9.9.9"),
    ("::1", "resolves to loopback address ::1"),
    ("0.0.0.0", "resolves to unspecified address 0.0.0.0"),
    ("::", "resolves to unspecified address ::"),
    ("169.254.1.1", "resolves to link-local address 169.254.1.1"),
    ("fe80::1", "resolves to link-local address fe80::1"),
    ("224.0.0.251", "resolves to link-local address 224.0.0.251"),
    ("ff02::fb", "resolves to link-local address ff02::fb"),
    ("ff01::1", "resolves to interface-local address ff01::1"),
    ("::ffff:127.0.0.1", "resolves to loopback address 127.0.0.1"),
    ("64:ff9b::a9fe:a9fe", "targets instance metadata service 169.254.169.254"),
    ("2002:7f00:1::", "resolves to loopback address 127.0.0.1"),
    ("2001:0:4136:e378:8000:63bf:80ff:fffe", "resolves to loopback address 127.0.0.1"),
    ("::7f00:1", "resolves to loopback address 127.0.0.1"),
]
ONLY_FOR_STORES = [
    ("10.1.2.3", "resolves to private address 10.1.2.3"),
    ("172.31.0.1", "resolves to private address 172.31.0.1"),
    ("192.168.1.1", "resolves to private address 192.168.1.1"),
    ("fd00::1", "resolves to private address fd00::1"),
    ("100.64.0.1", "resolves to CGNAT address 100.64.0.1"),
    ("::ffff:10.0.0.1", "resolves to private address 10.0.0.1"),
]


def nowhere(host: str) -> list[str]:
    raise OSError(f"lookup {host}: no such host")


def literal(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize(("address", "reason"), ADDRESSES)
def test_addresses_that_nobody_may_name(address, reason):
    target = f"{literal(address)}:8080.18080"
    with pytest.raises(ClientError) as caught:
        check_peer_target(target, nowhere)
    assert caught.value.text == f'remote endpoint "{target}" {reason}'


@pytest.mark.parametrize(("address", "reason"), ADDRESSES + ONLY_FOR_STORES)
def test_addresses_that_no_object_store_may_have(address, reason):
    endpoint = f"http://{literal(address)}:9000/path"
    with pytest.raises(ClientError) as caught:
        check_remote_endpoint(endpoint, nowhere)
    assert caught.value.text == f'remote endpoint "{endpoint}" {reason}'


@pytest.mark.parametrize("address", [address for address, _ in ONLY_FOR_STORES] + ["8.8.8.8", "2600::1"])
def test_servers_of_the_cluster_may_be_in_private_networks(address):
    check_peer_target(f"{literal(address)}:8080", nowhere)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("", "replica target is empty"),
        ("http://host:80", 'replica target "http://host:80" must be a bare host:port'),
        ("user@host:80", 'replica target "user@host:80" must be a bare host:port'),
        ("host:80/x", 'replica target "host:80/x" must be a bare host:port'),
        ("h\\x:80", 'replica target "h\\\\x:80" must be a bare host:port'),
        ("host", 'replica target "host" must be a bare host:port: address host: missing port in address'),
        ("a:b:c", 'replica target "a:b:c" must be a bare host:port: address a:b:c: too many colons in address'),
        (":80", 'replica target ":80" has no host'),
        (
            "Metadata.Google.Internal.:80",
            'replica target "Metadata.Google.Internal.:80" targets instance metadata service',
        ),
        ("gone:80", 'resolve replica target host "gone": lookup gone: no such host'),
    ],
)
def test_what_is_no_server(target, reason):
    with pytest.raises(ClientError) as caught:
        check_peer_target(target, nowhere)
    assert caught.value.text == reason


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("ftp://host", 'remote endpoint "ftp://host" must use http or https, got "ftp"'),
        ("http://", 'remote endpoint "http://" has no host'),
        ("https://metadata/x", 'remote endpoint "https://metadata/x" targets instance metadata service'),
        ("http://gone/", 'resolve remote endpoint host "gone": lookup gone: no such host'),
    ],
)
def test_what_is_no_object_store(endpoint, reason):
    with pytest.raises(ClientError) as caught:
        check_remote_endpoint(endpoint, nowhere)
    assert caught.value.text == reason


def test_every_address_of_a_name_must_pass():
    def both(_: str) -> list[str]:
        return ["8.8.8.8", "10.0.0.1"]

    with pytest.raises(ClientError, match="resolves to private address 10.0.0.1"):
        check_remote_endpoint("http://store", both)
    check_peer_target("store:80", both)


def test_whoever_connects_gets_the_addresses_that_were_checked():
    addresses = ["8.8.8.8", "2600::1"]
    assert check_remote_endpoint("https://store:9000", lambda _: addresses) == addresses
    assert check_peer_target("store:9000.19000", lambda _: addresses) == addresses
