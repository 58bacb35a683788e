"""Shared bodies: the pools of the fronts as the worker sees them (``volumed.bus.bodypool``)."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from volumed.bus.bodypool import PoolReader
from volumed.bus.frames import STORE_PUT, STORE_PUT_SHARED, FrameError, StoreOperation

__all__ = ["SharedBodies"]

_log = logging.getLogger(__name__)


class SharedBodies:
    """Maps each front's pool once, by the front's identity on the bus."""

    def __init__(self) -> None:
        self._pools: dict[bytes, PoolReader] = {}

    def introduce(self, identity: bytes, path: str) -> None:
        """A front told where its pool is."""
        try:
            self._pools[identity] = PoolReader(path)
        except OSError as error:
            _log.error("cannot map the body pool %s: %s", path, error)

    def view(self, identity: bytes, offset: int, length: int) -> memoryview:
        """Bytes of a front's pool. Raises `FrameError`."""
        pool = self._pools.get(identity)
        if pool is None:
            raise FrameError("a shared body came from a front whose pool is not known")
        return pool.view(offset, length)

    def resolve(self, identity: bytes, operations: list[StoreOperation]) -> Sequence[StoreOperation]:
        """The operations with all bodies at hand. Raises `FrameError`."""
        for index, operation in enumerate(operations):
            if operation.kind == STORE_PUT_SHARED:
                body = self.view(identity, operation.shared_at, operation.size)
                operations[index] = operation._replace(kind=STORE_PUT, body=body)
        return operations

    def forget_gone(self) -> list[bytes]:
        """Unmap the pools whose files were removed: their fronts have ended. Returns those."""
        gone = [identity for identity, pool in self._pools.items() if not os.path.exists(pool.path)]
        for identity in gone:
            self._pools.pop(identity).close()
        return gone

    def close(self) -> None:
        """Unmap all."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
