"""Keys that check and issue tokens, and the checks a process sees through reloads (docs/spec/http.md 8.2, 8.3)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tokens import signed, token
from volumed.nodetable import NodeTable, create_node_table
from volumed.security.access import Access, AccessView, access_of
from volumed.security.settings import SecuritySettings, write_security
from volumed.security.tokens import TOKEN_BYTES_MAX, TokenKey

FID = "3,01aabbccdd"
KEYS = ["x", "k" * 200, "schlüssel", "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----", '{"kty":"oct"}', " "]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_any_text_is_a_key(key, alg):
    """Without a warning, too: warnings are errors here."""
    checked = TokenKey(key, 10)
    assert checked.allows(token(FID, key, alg=alg).encode(), FID)
    assert checked.allows(checked.issue(FID), FID)
    assert not checked.allows(token(FID, key + "x", alg=alg).encode(), FID)


def test_what_is_issued_is_for_one_file_and_a_short_time(monkeypatch):
    key = TokenKey("k", 10)
    issued = key.issue(FID)
    assert not key.allows(issued, FID + "0")
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 9)
    assert key.allows(issued, FID)
    monkeypatch.setattr(time, "time", lambda: now_s + 10)
    assert not key.allows(issued, FID)


def test_without_a_lifetime_tokens_do_not_expire(monkeypatch):
    issued = TokenKey("k", 0).issue(FID)
    monkeypatch.setattr(time, "time", lambda: 1e11)
    assert TokenKey("k", 10).allows(issued, FID)


def test_ids_that_are_no_text_get_a_token_that_opens_nothing():
    assert not TokenKey("k", 10).allows(TokenKey("k", 10).issue("1,\udcff"), "1,\udcff")


def test_long_tokens_are_refused_unread():
    fitting = token(FID, "k", junk="x" * (TOKEN_BYTES_MAX // 2)).encode()
    assert TokenKey("k", 10).allows(fitting, FID)
    long = token(FID, "k", junk="x" * TOKEN_BYTES_MAX).encode()
    assert not TokenKey("k", 10).allows(long, FID)


@pytest.mark.parametrize(
    "text",
    [b"", b".", b"..", b"...", b"a.b.c", "ü.ü.ü".encode(), b"\xff\xfe", b"." * 8000, b"A" * 8000, b"e30.e30."],
)
def test_garbage_is_wrong_and_nothing_else(text):
    assert not TokenKey("k", 10).allows(text, FID)
    assert not TokenKey("k", 10).allows(text, "")


def test_deep_nesting_is_wrong_and_nothing_else():
    deep = b"[" * 1500 + b"]" * 1500
    for header, claims in (
        (b'{"alg":"HS256","x":%b}' % deep, b'{"fid":"x"}'),
        (b'{"alg":"HS256"}', b'{"fid":%b}' % deep),
        (b'{"alg":"HS256"}', deep),
    ):
        assert not TokenKey("k", 10).allows(signed(header, claims, "k").encode(), FID)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[NodeTable]:
    table = create_node_table(str(tmp_path / "node.table"), disks=1, fronts=1)
    yield table
    table.close()


def test_nothing_configured_is_nothing_to_check():
    assert access_of(SecuritySettings()) == Access(None, None, None)


def test_a_change_is_seen_when_the_table_tells(table, tmp_path):
    write_security(SecuritySettings(), str(tmp_path))
    view = AccessView(table, str(tmp_path))
    open_ = view.current
    write_security(SecuritySettings(read_key="r", write_key="w", white_list=("::1",)), str(tmp_path))
    assert view.current is open_
    table.security_changed()
    locked = view.current
    assert all(locked)
    assert view.current is locked
    assert locked.read_key is not None
    assert locked.read_key.allows(token(FID, "r").encode(), FID)


@pytest.mark.parametrize("content", [None, b"{", b'{"read_key":5}'], ids=["gone", "cut", "wrong"])
def test_a_file_that_cannot_be_read_changes_nothing(content, table, tmp_path, caplog):
    write_security(SecuritySettings(read_key="r"), str(tmp_path))
    view = AccessView(table, str(tmp_path))
    locked = view.current
    if content is None:
        (tmp_path / "security.json").unlink()
    else:
        (tmp_path / "security.json").write_bytes(content)
    table.security_changed()
    assert view.current is locked
    assert view.current is locked
    assert len(caplog.records) == 1
