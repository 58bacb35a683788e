"""JSON text as the reference writes it (http.md 1.4): compact, HTML-safe, no trailing newline."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["encode_json", "error_body", "quote_json"]

_PLAIN = re.compile(r"[ !#-%'-;=?-\[\]-~]*")
"""Text that needs no escape at all."""
_HTML_SAFE = str.maketrans({
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
    **{chr(point): "\ufffd" for point in range(0xD800, 0xE000)},
})
"""Applied to finished JSON, where these characters occur inside strings only. Surrogates stand for bytes
that are not UTF-8; each becomes one replacement character."""


def encode_json(value: Any, *, pretty: bool = False, sort_keys: bool = False) -> bytes:
    """JSON of a value of dicts, lists, strings, numbers, booleans and None.

    `pretty` indents by two blanks (`?pretty=`); `sort_keys` is for results that are maps, not records.
    """
    layout: dict[str, Any] = {"indent": 2} if pretty else {"separators": (",", ":")}
    text = json.dumps(value, ensure_ascii=False, sort_keys=sort_keys, **layout)
    return text.translate(_HTML_SAFE).encode()


def quote_json(text: str) -> str:
    """One JSON string, quotes included."""
    if _PLAIN.fullmatch(text):
        return f'"{text}"'
    return json.dumps(text, ensure_ascii=False).translate(_HTML_SAFE)


def error_body(text: str, *, pretty: bool = False) -> bytes:
    """`{"error":"<text>"}`."""
    return encode_json({"error": text}, pretty=pretty)
