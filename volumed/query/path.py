"""Dotted paths into JSON values (docs/spec/grpc.md 3.30).

``a.b`` is a member of a member, ``arr.0`` an element, ``arr.#`` the number of elements, ``arr.#.b`` what all elements
have at ``b``; names may hold the wildcards ``*`` and ``?``. A backslash makes the next character an ordinary one.
The reference knows more: modifiers (``@keys``), several paths in one, conditions on elements. Those are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from volumed.codes import Code
from volumed.errors import FormatError
from volumed.formats.numbers import quote
from volumed.query.glob import Glob, has_wildcard
from volumed.query.scan import elements, members

__all__ = ["Path", "find", "parse_path"]

_PARTS_MAX = 100
_PART = re.compile(r"((?:[^.\\]++|\\.|\\$)*+)(\.|$)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


_UNSUPPORTED = re.compile(
    r"\.\.|[!{\[]|@(?:this|reverse|pretty|ugly|flatten|join|valid|keys|values|tostr|fromstr|group|dig)(?:[.|:]|$)|.*#\(",
    re.DOTALL,
)


class _Part(NamedTuple):
    name: bytes
    position: int | None
    """As an element of an array."""
    glob: Glob | None


Path = Sequence[_Part]


def parse_path(text: str) -> Path | None:
    """None: nothing can be there. Raises `FormatError` for what only the reference understands."""
    if _UNSUPPORTED.match(text):
        raise FormatError(f"path {quote(text)} is not supported", Code.INVALID_ARGUMENT)
    parts: list[_Part] = []
    at = 0
    while text and len(parts) < _PARTS_MAX:
        found = _PART.match(text, at)
        if found is None:
            return None
        raw = found[1]
        name = _ESCAPE.sub(r"\1", raw)
        position = int(name) if name.isascii() and name.isdigit() and len(name) < 10 else None
        parts.append(_Part(name.encode(), position, Glob(raw) if has_wildcard(raw) else None))
        at = found.end()
        if not found[2]:
            return parts
    return None


def find(value: bytes, path: Path) -> bytes | None:
    """The piece of text at a path; the first one, if there are more. None when there is none."""
    if not path:
        return value
    part, rest = path[0], path[1:]
    if value.startswith(b"{"):
        inner = (member for name, member in members(value) if _is_named(part, name))
    elif value.startswith(b"["):
        if part.name == b"#":
            return _of_all(value, rest)
        inner = (element for index, element in enumerate(elements(value)) if index == part.position)
    else:
        return None
    for candidate in inner:
        found = find(candidate, rest)
        if found is not None:
            return found
    return None


def _of_all(array: bytes, rest: Path) -> bytes:
    """How many elements there are, or what they have at the rest of the path."""
    if not rest:
        return str(sum(1 for _ in elements(array))).encode()
    found = (find(element, rest) for element in elements(array))
    return b"[%b]" % b",".join(item for item in found if item is not None)


def _is_named(part: _Part, name: bytes) -> bool:
    if part.glob is None:
        return name == part.name
    return part.glob.matches(name.decode("utf-8", "surrogateescape"))
