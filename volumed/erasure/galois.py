"""Arithmetic of the code: the field GF(2^8) and its matrices (docs/spec/erasure-coding.md 1.1, 1.2, 1.4).

Pure Python on a few hundred numbers. The bulk, matrix times shards, is the business of the multipliers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

__all__ = ["PRODUCTS", "Matrix", "encoding_matrix", "recovery_matrix"]

Matrix = tuple[bytes, ...]
"""Rows of field elements."""

_POLYNOMIAL = 0x11D
_ORDER = 255


def _powers_of_two() -> bytes:
    powers = bytearray()
    value = 1
    for _ in range(_ORDER):
        powers.append(value)
        value <<= 1
        if value > 0xFF:
            value ^= _POLYNOMIAL
    return bytes(powers)


_EXP = _powers_of_two()
_LOG = {value: exponent for exponent, value in enumerate(_EXP)}


def _product(a: int, b: int) -> int:
    return _EXP[(_LOG[a] + _LOG[b]) % _ORDER] if a and b else 0


PRODUCTS: Matrix = tuple(bytes(_product(a, b) for b in range(256)) for a in range(256))
"""``PRODUCTS[a][b]`` is a·b."""


def _power(base: int, exponent: int) -> int:
    if not exponent:
        return 1
    return _EXP[_LOG[base] * exponent % _ORDER] if base else 0


def _inverse_of(a: int) -> int:
    return _EXP[-_LOG[a] % _ORDER]


def _times(left: Sequence[bytes], right: Sequence[bytes]) -> Matrix:
    return tuple(_row_times(row, right) for row in left)


def _row_times(row: bytes, matrix: Sequence[bytes]) -> bytes:
    total = bytes(len(matrix[0]))
    for factor, other in zip(row, matrix, strict=True):
        total = _sum(total, other.translate(PRODUCTS[factor]))
    return total


def _sum(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def _inverse(matrix: Sequence[bytes]) -> Matrix:
    """By elimination on the matrix with the identity beside it. `ArithmeticError` when there is none."""
    size = len(matrix)
    rows = [row + _unit(index, size) for index, row in enumerate(matrix)]
    for column in range(size):
        pivot = next((index for index in range(column, size) if rows[index][column]), None)
        if pivot is None:
            raise ArithmeticError("the matrix has no inverse")
        rows[column], rows[pivot] = rows[pivot], rows[column]
        own = rows[column] = rows[column].translate(PRODUCTS[_inverse_of(rows[column][column])])
        for index in range(size):
            if index != column:
                rows[index] = _sum(rows[index], own.translate(PRODUCTS[rows[index][column]]))
    return tuple(row[size:] for row in rows)


def _unit(index: int, size: int) -> bytes:
    return bytes(position == index for position in range(size))


@lru_cache(maxsize=32)
def encoding_matrix(data_shards: int, parity_shards: int) -> Matrix:
    """One row per shard: what it is of the data shards. The first rows are the identity, the others make parity."""
    count = data_shards + parity_shards
    powers = [bytes(_power(row, column) for column in range(data_shards)) for row in range(count)]
    return _times(powers, _inverse(powers[:data_shards]))


def recovery_matrix(
    data_shards: int, parity_shards: int, survivors: tuple[int, ...], wanted: tuple[int, ...]
) -> Matrix:
    """One row per wanted shard, data or parity: what it is of the survivors, of which there must be ``data_shards``."""
    rows = encoding_matrix(data_shards, parity_shards)
    return _times([rows[shard] for shard in wanted], _inverse([rows[shard] for shard in survivors]))
