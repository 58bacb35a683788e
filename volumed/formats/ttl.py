"""Time to live of needles and volumes: a count and a unit (docs/spec/storage.md 1.4)."""

from __future__ import annotations

from dataclasses import dataclass

from volumed.formats.numbers import atoi, go_bytes, go_text

__all__ = ["NO_TTL", "Ttl", "parse_ttl"]

_MINUTE, _HOUR, _DAY, _WEEK, _MONTH, _YEAR = range(1, 7)
_LETTERS = {_MINUTE: "m", _HOUR: "h", _DAY: "d", _WEEK: "w", _MONTH: "M", _YEAR: "y"}
_UNITS = {letter: unit for unit, letter in _LETTERS.items()}
_MINUTES = {_MINUTE: 1, _HOUR: 60, _DAY: 1440, _WEEK: 10080, _MONTH: 43200, _YEAR: 525600}
_COUNT_LIMIT = 256


@dataclass(frozen=True, slots=True)
class Ttl:
    """`count` 0..255, `unit` byte 0..255 as stored; units above 6 are kept but mean no time."""

    count: int = 0
    unit: int = 0

    @property
    def minutes(self) -> int:
        return self.count * _MINUTES.get(self.unit, 0)

    @property
    def seconds(self) -> int:
        return self.minutes * 60

    def __bool__(self) -> bool:
        """Whether it ends at all."""
        return self.minutes > 0

    def __str__(self) -> str:
        return f"{self.count}{_LETTERS[self.unit]}" if self.count and self.unit in _LETTERS else ""

    def to_bytes(self) -> bytes:
        """The two bytes on disk."""
        return bytes((self.count, self.unit))

    @classmethod
    def from_bytes(cls, raw: bytes | memoryview) -> Ttl:
        return cls(raw[0], raw[1])

    def to_u32(self) -> int:
        """The form in messages."""
        return self.count << 8 | self.unit if self.count else 0

    @classmethod
    def from_u32(cls, value: int) -> Ttl:
        return cls(value >> 8 & 0xFF, value & 0xFF)


NO_TTL = Ttl()


def parse_ttl(text: str) -> Ttl:
    """Read `<count><letter>` and normalise it to the unit that the reference would store.

    A count that is no number raises `FormatError`. An unknown letter, or a count below 1, means no TTL.
    """
    if not text:
        return NO_TTL
    raw = go_bytes(text)
    if raw[-1:].isdigit():
        return _normalise(atoi(text), _MINUTE)
    count = atoi(go_text(raw[:-1]))
    # COMPAT: `3x` and `3H` silently mean no TTL; uploads with such a parameter must keep succeeding.
    return _normalise(count, _UNITS.get(go_text(raw[-1:]), 0))


def _normalise(count: int, unit: int) -> Ttl:
    minutes = count * _MINUTES.get(unit, 0)
    if minutes <= 0:
        return NO_TTL
    for exact in (_YEAR, _MONTH, _WEEK, _DAY, _HOUR):
        quotient, rest = divmod(minutes, _MINUTES[exact])
        if not rest and quotient < _COUNT_LIMIT:
            return Ttl(quotient, exact)
    for rounded in (_MINUTE, _HOUR, _DAY, _WEEK, _MONTH, _YEAR):
        quotient = minutes // _MINUTES[rounded]
        if quotient < _COUNT_LIMIT:
            return Ttl(quotient, rounded)
    return NO_TTL
