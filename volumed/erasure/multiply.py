"""Matrix times shards: the interface, and the two that do it.

`IsaL` calls Intel's ISA-L, which the `pyeclib` wheel carries, with our own matrix: pyeclib itself knows other
matrices only (docs/spec/erasure-coding.md 7.2). `NumpyProduct` gives the same bytes at a thirtieth of the speed where
that library is missing or fails the self-test. Both leave the interpreter to other threads while they compute.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import logging
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Protocol

from volumed.erasure.galois import PRODUCTS, Matrix

__all__ = ["Buffer", "IsaL", "Multiplier", "NumpyProduct", "WritableBuffer", "multiplier", "passes_self_test"]

_log = logging.getLogger(__name__)

Buffer = bytes | bytearray | memoryview
WritableBuffer = bytearray | memoryview

_TABLE_BYTES = 32
"""Of the library's tables, per coefficient."""
_SYSTEM_LIBRARY = "libisal.so.2"
_PACKED = 4
"""Products of one source byte that the numpy tables hold side by side."""
_PIECE_BYTES = 128 << 10
"""Long shards are multiplied in pieces that stay in the processor's cache."""
_TEST_BYTES = 1021


class Multiplier(Protocol):
    """Computes each target as a sum of multiples of the sources. All buffers have one length, any length."""

    name: str

    def prepare(self, matrix: Matrix) -> Any:
        """What `multiply` wants to know of a matrix; may be kept and used by several threads."""

    def multiply(self, prepared: Any, sources: Sequence[Buffer], targets: Sequence[WritableBuffer]) -> None:
        """``targets = matrix × sources``: one row per target, one column per source."""


class IsaL:
    """ISA-L through ctypes."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        """Raises `AttributeError` when the library lacks the functions."""
        self.name = name
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        self._init_tables = library.ec_init_tables
        self._init_tables.argtypes = (integer, integer, ctypes.c_char_p, pointer)
        self._init_tables.restype = None
        self._encode_data = library.ec_encode_data
        self._encode_data.argtypes = (integer, integer, integer, pointer, pointer, pointer)
        self._encode_data.restype = None

    def prepare(self, matrix: Matrix) -> ctypes.Array[ctypes.c_char]:
        rows, columns = len(matrix), len(matrix[0])
        tables = ctypes.create_string_buffer(_TABLE_BYTES * rows * columns)
        self._init_tables(columns, rows, b"".join(matrix), tables)
        return tables

    def multiply(
        self, prepared: ctypes.Array[ctypes.c_char], sources: Sequence[Buffer], targets: Sequence[WritableBuffer]
    ) -> None:
        _require_shape(len(prepared) // _TABLE_BYTES, sources, targets)
        length = len(targets[0])
        if length:
            addresses = _addresses(sources), _addresses(targets)
            self._encode_data(length, len(sources), len(targets), prepared, *addresses)


class NumpyProduct:
    """Tables of numpy: one look-up per source byte gives its product for up to four targets."""

    name = "numpy"

    def prepare(self, matrix: Matrix) -> list[tuple[Any, ...]]:
        """For every four rows, one table per column."""
        groups = (matrix[first : first + _PACKED] for first in range(0, len(matrix), _PACKED))
        return [tuple(_packed_table(coefficients) for coefficients in zip(*rows, strict=True)) for rows in groups]

    def multiply(
        self, prepared: list[tuple[Any, ...]], sources: Sequence[Buffer], targets: Sequence[WritableBuffer]
    ) -> None:
        import numpy as np

        _require_shape(len(prepared[0]) * len(targets), sources, targets)
        inputs = [np.frombuffer(source, np.uint8) for source in sources]
        outputs = [np.frombuffer(target, np.uint8) for target in targets]
        length = len(outputs[0])
        for start in range(0, length, _PIECE_BYTES):
            piece = slice(start, min(length, start + _PIECE_BYTES))
            for group, tables in enumerate(prepared):
                total = np.zeros(piece.stop - piece.start, "<u4")
                product = np.empty_like(total)
                for table, data in zip(tables, inputs, strict=True):
                    # The mode is for speed only: no byte is out of range.
                    np.take(table, data[piece], out=product, mode="clip")
                    total ^= product
                columns = total.view(np.uint8).reshape(-1, _PACKED)
                for index, output in enumerate(outputs[group * _PACKED : (group + 1) * _PACKED]):
                    output[piece] = columns[:, index]


def _packed_table(coefficients: tuple[int, ...]) -> Any:
    import numpy as np

    table = np.zeros((256, _PACKED), np.uint8)
    for index, coefficient in enumerate(coefficients):
        table[:, index] = np.frombuffer(PRODUCTS[coefficient], np.uint8)
    return table.view("<u4").ravel()


def _addresses(buffers: Sequence[Buffer]) -> ctypes.Array[ctypes.c_void_p]:
    """Of buffers that are not empty; good as long as the caller keeps them."""
    return (ctypes.c_void_p * len(buffers))(*map(_address, buffers))


def _address(buffer: Buffer) -> int | None:
    if isinstance(buffer, bytes):
        return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value
    if isinstance(buffer, memoryview) and buffer.readonly:
        import numpy as np  # ctypes takes no address of what must not be written

        return np.frombuffer(buffer, np.uint8).ctypes.data
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _require_shape(coefficients: int, sources: Sequence[Buffer], targets: Sequence[WritableBuffer]) -> None:
    """A wrong length would write over foreign memory: a bug of ours must not get there."""
    length = len(targets[0])
    if coefficients != len(sources) * len(targets) or any(len(item) != length for item in (*sources, *targets)):
        raise ValueError("the buffers do not have the shape of the matrix")
    if any(isinstance(target, memoryview) and target.readonly for target in targets):
        raise ValueError("a target cannot be written")


@cache
def multiplier() -> Multiplier:
    """The fastest one that gives right results here; found once per process."""
    for path in _library_paths():
        try:
            candidate = IsaL(ctypes.CDLL(path), f"ISA-L ({path})")
        except (OSError, AttributeError):
            continue
        if passes_self_test(candidate):
            return candidate
        _log.error("%s computes wrong results and is not used", path)
    _log.warning("erasure coding runs without ISA-L, many times slower: is pyeclib installed?")
    return NumpyProduct()


def _library_paths() -> Iterator[str]:
    try:
        for file in importlib.metadata.files("pyeclib") or ():
            if file.name.startswith("libisal") and ".so" in file.name:
                yield str(file.locate())
    except importlib.metadata.PackageNotFoundError:
        pass
    yield _SYSTEM_LIBRARY


def passes_self_test(candidate: Multiplier) -> bool:
    """Compare with plain products: as many shards as there can be, every coefficient, an odd length."""
    sources = [bytes((index * 7 + at * 31 + at // 256) & 0xFF for at in range(_TEST_BYTES)) for index in range(16)]
    matrix = tuple(bytes((row * 16 + column) & 0xFF for column in range(16)) for row in range(16))
    targets = [bytearray(_TEST_BYTES) for _ in matrix]
    candidate.multiply(candidate.prepare(matrix), sources, targets)
    return all(target == _plain_product(row, sources) for row, target in zip(matrix, targets, strict=True))


def _plain_product(row: bytes, sources: Sequence[bytes]) -> bytes:
    total = 0
    for coefficient, source in zip(row, sources, strict=True):
        total ^= int.from_bytes(source.translate(PRODUCTS[coefficient]), "big")
    return total.to_bytes(len(sources[0]), "big")
