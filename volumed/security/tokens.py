"""Tokens that allow one operation on one file id (docs/spec/http.md 8.2)."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from jwt import InvalidTokenError
from jwt.algorithms import HMACAlgorithm
from jwt.api_jws import PyJWS

__all__ = ["TOKEN_BYTES_MAX", "TokenKey"]

TOKEN_BYTES_MAX = 8 << 10
"""Longer tokens are refused unread."""
_HASHES = {"HS256": HMACAlgorithm.SHA256, "HS384": HMACAlgorithm.SHA384, "HS512": HMACAlgorithm.SHA512}
_ISSUED = "HS256"


class _AnyKey(HMACAlgorithm):
    """Takes the key as it is: its length and looks are the operator's choice, as in the reference."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: bytes) -> None:
        del key


class _Claims(msgspec.Struct, omit_defaults=True):
    """What is looked at; everything else in a token is ignored. Times in seconds since 1970."""

    exp: float | None = None
    nbf: float | None = None
    fid: str = ""


def _signatures() -> PyJWS:
    signatures = PyJWS(algorithms=())
    for name, hash_algorithm in _HASHES.items():
        signatures.register_algorithm(name, _AnyKey(hash_algorithm))
    return signatures


_SIGNATURES = _signatures()


def _parse(payload: bytes) -> _Claims:
    """COMPAT: letter case means nothing in names of claims, the last of a name counts, and a time may be a text."""
    claims = msgspec.json.decode(payload, type=dict[str, Any])
    return msgspec.convert({name.lower(): value for name, value in claims.items()}, _Claims, strict=False)


class TokenKey:
    """One signing key and the lifetime of what is signed with it."""

    def __init__(self, key: str, expires_s: int) -> None:
        self._key = key.encode()
        self._expires_s = expires_s

    def allows(self, token: bytes, file_id: str) -> bool:
        """Whether the token is signed with this key, valid now and made for ``file_id`` (compared as text)."""
        # Padding is the one spelling that the library takes and the reference does not.
        if len(token) > TOKEN_BYTES_MAX or b"=" in token:
            return False
        try:
            claims = _parse(_SIGNATURES.decode(token, self._key, algorithms=tuple(_HASHES)))
        except (InvalidTokenError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        now_s = time.time()
        if claims.exp is not None and now_s >= claims.exp:
            return False
        if claims.nbf is not None and now_s < claims.nbf:
            return False
        return claims.fid == file_id

    def issue(self, file_id: str) -> bytes:
        """A token for ``file_id``; it never expires when the lifetime is not positive. What is not UTF-8 in the id
        becomes ``?``, since a claim cannot hold it."""
        expires = int(time.time()) + self._expires_s if self._expires_s > 0 else None
        claim = file_id.encode(errors="replace").decode()
        payload = msgspec.json.encode(_Claims(expires, None, claim))
        return _SIGNATURES.encode(payload, self._key, _ISSUED).encode()
