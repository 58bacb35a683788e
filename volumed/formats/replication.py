"""Replica placement: how many copies of a volume there are, and how far apart (docs/spec/storage.md 1.5)."""

from __future__ import annotations

from dataclasses import dataclass

from volumed.errors import FormatError
from volumed.formats.numbers import go_bytes

__all__ = ["NO_REPLICATION", "ReplicaPlacement"]

_BYTE_MAX = 255


@dataclass(frozen=True, slots=True)
class ReplicaPlacement:
    """Extra copies: in other data centers, in other racks of one, and on other servers of one rack."""

    dc: int = 0
    rack: int = 0
    same: int = 0

    @property
    def byte(self) -> int:
        return self.dc * 100 + self.rack * 10 + self.same

    @property
    def copies(self) -> int:
        """Copies in all, the first one included."""
        return self.dc + self.rack + self.same + 1

    def __str__(self) -> str:
        return f"{self.dc}{self.rack}{self.same}"

    @classmethod
    def from_byte(cls, byte: int) -> ReplicaPlacement:
        return cls(byte // 100, byte // 10 % 10, byte % 10)

    @classmethod
    def parse(cls, text: str) -> ReplicaPlacement:
        """Read up to three digits, padded on the left with zeros. Raises `FormatError`."""
        padded = "0" * (3 - len(go_bytes(text))) + text
        if any(char < "0" for char in padded):
            raise FormatError(f"unknown replication type: {padded}")
        # COMPAT: what follows the third character counts for nothing; configurations carry such strings.
        digits = padded[:3]
        # DEVIATE: the reference also accepts characters above '9'.
        if any(char > "9" for char in digits) or int(digits) > _BYTE_MAX:
            raise FormatError(f"unexpected replication type: {padded}")
        return cls(*map(int, digits))


NO_REPLICATION = ReplicaPlacement()
