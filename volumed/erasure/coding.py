"""The long arithmetic of erasure coding as tasks on open files: what they need of a disk, and who carries them out.

A task knows no names, no locks and no volumes, so that it can be done anywhere: by `CoderHere` on the spot, or by a
process that is in nobody's way (``workers.coding``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from volumed.erasure.columns import THREADS, Progress
from volumed.storage.fileio import File, FileIO

__all__ = ["Coder", "CoderHere", "CodingTask"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class CodingTask(Protocol[T_co]):
    """Something to compute; it can be pickled, and so can what it returns."""

    def run(self, files: FileIO, opened: Sequence[File], progress: Progress, threads: int) -> T_co:
        """Do it with ``opened``, in the order that the task says; what it wrote is on the disk then. Raises `OSError`,
        `EcInterrupted`; files are then left as they are."""


class Coder(Protocol):
    """Carries tasks out, one at a time."""

    def run(self, task: CodingTask[T], opened: Sequence[File], progress: Progress) -> T:
        """The result of `CodingTask.run`. Raises the same, and `NodeError` when it cannot be done here."""


class CoderHere:
    """Does the work where it is called."""

    def __init__(self, files: FileIO, threads: int = THREADS) -> None:
        self._files = files
        self._threads = threads

    def run(self, task: CodingTask[T], opened: Sequence[File], progress: Progress) -> T:
        return task.run(self._files, opened, progress, self._threads)
