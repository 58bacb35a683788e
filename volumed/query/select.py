"""Which JSON values match a filter, and what is told of them (docs/spec/grpc.md 3.30)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from volumed.query.glob import Glob
from volumed.query.path import find, parse_path
from volumed.query.scan import number_of, text_of, values

__all__ = ["Filter", "Selection", "selected"]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_OF_TRUE: dict[str, Callable[[str], bool]] = {
    "=": lambda wanted: wanted == "true",
    "!=": lambda wanted: wanted != "true",
    ">": lambda wanted: wanted == "false",
    ">=": lambda _: True,
}
_OF_FALSE: dict[str, Callable[[str], bool]] = {
    "=": lambda wanted: wanted == "false",
    "!=": lambda wanted: wanted != "false",
    "<": lambda wanted: wanted == "true",
    "<=": lambda _: True,
}


class Filter:
    """A condition on one field; without an operand, that the field is there."""

    def __init__(self, field: str, operand: str, wanted: str) -> None:
        self._path = parse_path(field)
        self._operand = operand
        self._wanted = wanted
        self._number = number_of(wanted)
        self._glob = Glob(wanted) if operand in ("%", "!%") else None

    def accepts(self, value: bytes) -> bool:
        """Whether a JSON value matches."""
        found = None if self._path is None else find(value, self._path)
        if found is None:
            return False
        if not self._operand:
            return True
        first = found[:1]
        if first == b'"':
            return self._accepts_text(text_of(found))
        if first in b"tf":
            test = (_OF_TRUE if first == b"t" else _OF_FALSE).get(self._operand)
            return test is not None and test(self._wanted)
        compare = _ORDER.get(self._operand)
        if compare is None or first in b"{[" or _is_null(found):
            return False
        return compare(number_of(found.decode("latin-1")), self._number)

    def _accepts_text(self, text: bytes) -> bool:
        if self._glob is not None:
            return self._glob.matches(text.decode("utf-8", "surrogateescape")) == (self._operand == "%")
        compare = _ORDER.get(self._operand)
        return compare is not None and compare(text, self._wanted.encode())


class Selection:
    """The fields that are told of a match."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = [(field.encode(), parse_path(field)) for field in fields]

    def record(self, value: bytes) -> bytes:
        """One match as text: names unquoted, values as they stand there, null and what is missing empty."""
        parts = []
        for name, path in self._fields:
            found = None if path is None else find(value, path)
            parts.append(b"%b:%b" % (name, b"" if found is None or _is_null(found) else found))
        return b"{%b}" % b",".join(parts)


def selected(text: bytes, condition: Filter, selection: Selection) -> Iterator[bytes]:
    """A record for each value in the text that matches; an empty one for each that does not, so that a caller who
    counts bytes or time comes to his turn."""
    for value in values(text):
        yield selection.record(value) if condition.accepts(value) else b""


def _is_null(value: bytes) -> bool:
    return value.startswith(b"nu")
