"""The white list: which entries count and which addresses they let in (docs/spec/http.md 1.7, grpc.md 7.4)."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from volumed.grpc.admin_gate import ADMIN_METHODS, peer_address
from volumed.security.guard import WhiteList, usable_entries

SPEC = Path(__file__).parents[2] / "docs/spec/grpc.md"


@pytest.mark.parametrize(
    ("entry", "peer", "allowed"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.1.2.3/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("0.0.0.0/0", "1.2.3.4", True),
        ("0.0.0.0/0", "::1", False),
        ("::1", "::1", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("0:0:0:0:0:0:0:1", "::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("fe80::1", "fe80::1%eth0", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("localhost", "127.0.0.1", False),
        ("10.0.0.0/8", "", False),
        ("10.0.0.0/8", "no address", False),
    ],
)
def test_who_is_let_in(entry, peer, allowed):
    assert WhiteList(["192.0.2.7", entry]).allows(peer) is allowed


def test_ranges_that_are_none_are_skipped_and_told(caplog):
    caplog.set_level(logging.ERROR)
    entries = ["::1", "10.0.0.0/33", "x/8", "10.0.0.0/255.0.0.0", "10.0.0.0/-1", "10.0.0.0/8/8", "/", "10.0.0.0/16"]
    assert usable_entries(entries) == ("::1", "10.0.0.0/16")
    assert len(caplog.records) == 6


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:[::1]:5000", "::1"),
        ("ipv6:%5B::1%5D:5000", "::1"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:5000", "10.0.0.1"),
        ("ipv6:[fe80::1%25eth0]:5000", "fe80::1"),
        ("unix:/tmp/socket", ""),
        ("", ""),
    ],
)
def test_addresses_of_grpc_peers(peer, address):
    assert peer_address(peer) == address


def test_the_administrative_methods_are_those_of_the_specification():
    text = SPEC.read_text()
    tables = text[text.index("### 1.2 ") : text.index("### 1.4 ")]
    rows = re.findall(r"^\| (\w+) \| (?:U|SS|CS) \| (A?) ?\|", tables, re.MULTILINE)
    assert len(rows) > 45
    assert {name for name, admin in rows if admin} == ADMIN_METHODS
