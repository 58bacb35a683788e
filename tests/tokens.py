"""Tokens made by hand, right ones and all kinds of wrong ones, without the library that checks them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

__all__ = ["bearer", "encode", "segment", "signed", "token"]

HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def segment(data: bytes) -> str:
    """One part of a token: base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: bytes, claims: bytes, key: str, alg: str = "HS256") -> str:
    """A token of two texts that need not be JSON."""
    content = f"{segment(header)}.{segment(claims)}"
    signature = hmac.digest(key.encode(), content.encode(), HASHES.get(alg, hashlib.sha256))
    return f"{content}.{segment(signature)}"


def encode(header: Any, claims: Any, key: str) -> str:
    """A token with this header, signed as it says; with SHA-256 when it names no hash of ours."""
    name = header.get("alg") if isinstance(header, dict) else None
    return signed(json.dumps(header).encode(), json.dumps(claims).encode(), key, str(name))


def token(file_id: str, key: str, *, alg: str = "HS256", **claims: Any) -> str:
    """A token for a file id. Claims ending in ``_in`` are seconds from now; others are taken as they are."""
    now_s = int(time.time())
    times = {name.removesuffix("_in"): now_s + value for name, value in claims.items() if name.endswith("_in")}
    others = {name: value for name, value in claims.items() if not name.endswith("_in")}
    return encode({"alg": alg, "typ": "JWT"}, {"fid": file_id, **times, **others}, key)


def bearer(text: str) -> dict[str, str]:
    """The header that brings a token."""
    return {"Authorization": f"Bearer {text}"}
