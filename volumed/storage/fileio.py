"""All file I/O of the storage engine, behind one object.

Everything that touches a data or index directory goes through a `FileIO`, so that a test can replace it with one
that fails, tears a write or records the calls. Reads and writes are positional: a file has no current position, and
the same `File` may be read by several threads while its owner appends.

A `File` closes its descriptor when the last reference is gone and never earlier: a reader thread that still holds
one can therefore not read from a descriptor number that was given to another file.

Errors are `OSError`; `disk_error` turns one into the domain error with a text like the reference's.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from volumed.errors import DiskError

__all__ = [
    "NAMELESS_PREFIX",
    "Buffer",
    "DistantFile",
    "File",
    "FileIO",
    "FileStatus",
    "SpaceInfo",
    "disk_error",
    "error_text",
    "file_error",
]

Buffer = bytes | bytearray | memoryview

_IOV_MAX = os.sysconf("SC_IOV_MAX")
_FILE_MODE = 0o644
_FALLOC_FL_KEEP_SIZE = 1
_RWF_NOWAIT = getattr(os, "RWF_NOWAIT", 0)

_COPY_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
_NO_COPY = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)

NAMELESS_PREFIX = ".volumed-spool-"
"""Start of the name that a nameless file has for a moment where the filesystem knows no others; a process that is
killed in that moment leaves it, empty."""

_libc = ctypes.CDLL(None, use_errno=True)


class SpaceInfo(NamedTuple):
    """Size of a filesystem in bytes; ``free_bytes`` is what an unprivileged process may use, ``reserved_bytes`` is free
    for others only."""

    total_bytes: int
    free_bytes: int
    reserved_bytes: int = 0


class FileStatus(NamedTuple):
    """What a directory says of a file."""

    size: int
    """In bytes."""
    modified_at_s: float
    """Seconds since 1970."""


class File:
    """An open file. Immutable; closed when garbage collected."""

    __slots__ = ("fd", "inode", "path", "writable")

    def __init__(self, path: str, fd: int, *, writable: bool = False) -> None:
        self.path = path
        self.fd = fd
        self.writable = writable
        self.inode = os.fstat(fd).st_ino

    def __del__(self) -> None:
        os.close(self.fd)


class DistantFile(File):
    """Bytes that are not on the disk but are read like a file's. Nothing of them is ever cached, writing fails.

    ``fetch`` gets offset and length, may wait long, and raises `VolumedError`. Never read one on a loop thread.
    """

    __slots__ = ("fetch", "head", "length", "mtime_ns")

    def __init__(
        self, path: str, length: int, mtime_ns: int, fetch: Callable[[int, int], bytes], head: bytes
    ) -> None:
        """``path`` is where the file would be; ``head`` are the first bytes, which are at hand."""
        self.path = path
        self.fd = -1
        self.inode = 0
        self.writable = False
        self.length = length
        self.mtime_ns = mtime_ns
        self.fetch = fetch
        self.head = head

    def __del__(self) -> None:
        pass


class FileIO:
    """The real thing. Subclass and override to observe or to break single operations."""

    def note(self, error: OSError) -> None:
        """Another process has met an error with a file of this one."""

    def open(self, path: str, *, writable: bool = True, create: bool = False) -> File:
        """Open a regular file, by default for reading and writing."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return File(path, os.open(path, flags, _FILE_MODE), writable=writable)

    def open_nameless(self, directory: str) -> File:
        """A new file on the filesystem of ``directory`` that is gone when it is closed, by whatever end."""
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            return File(os.path.join(directory, "(nameless)"), os.open(directory, flags | os.O_TMPFILE, 0o600))
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
        path = os.path.join(directory, NAMELESS_PREFIX + secrets.token_hex(8))
        file = File(path, os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(path)
        return file

    def size(self, file: File) -> int:
        """Length in bytes."""
        return file.length if isinstance(file, DistantFile) else os.fstat(file.fd).st_size

    def mtime_ns(self, file: File) -> int:
        """Time of the last change, in ns since 1970."""
        return file.mtime_ns if isinstance(file, DistantFile) else os.fstat(file.fd).st_mtime_ns

    def set_modified(self, file: File, time_ns: int) -> None:
        """Set the time of the last change, in ns since 1970."""
        os.utime(file.fd, ns=(time_ns, time_ns))

    def set_mtime(self, file: File, mtime_ns: int) -> None:
        """Say when the file was changed last."""
        os.utime(file.fd, ns=(mtime_ns, mtime_ns))

    def read_at(self, file: File, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes at ``offset``; fewer only at the end of the file."""
        if isinstance(file, DistantFile):
            length = min(length, file.length - offset)
            return file.fetch(offset, length) if length > 0 else b""
        data = os.pread(file.fd, length, offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        got = len(data)
        while got < length and (data := os.pread(file.fd, length - got, offset + got)):
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def read_into(self, file: File, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset`` on; returns the bytes read, fewer only at the end of the file."""
        if isinstance(file, DistantFile):
            data = self.read_at(file, offset, len(buffer))
            buffer[: len(data)] = data
            return len(data)
        done = 0
        while done < len(buffer) and (got := os.preadv(file.fd, (buffer[done:],), offset + done)):
            done += got
        return done

    def read_cached(self, file: File, offset: int, length: int) -> bytearray | None:
        """``length`` bytes at ``offset`` if all of them are in the page cache, else None: also when the filesystem
        cannot tell, and at the end of the file. Never waits for the disk."""
        buffer = bytearray(length)
        try:
            got = os.preadv(file.fd, (buffer,), offset, _RWF_NOWAIT)
        except OSError:
            return None
        return buffer if got == length else None

    def write_at(self, file: File, offset: int, pieces: Sequence[Buffer]) -> int:
        """Write all pieces one after the other at ``offset``, without copying them; returns the bytes written."""
        start = offset
        for first in range(0, len(pieces), _IOV_MAX):
            chunk = pieces[first : first + _IOV_MAX]
            wanted = sum(map(len, chunk))
            done = os.pwritev(file.fd, chunk, offset)
            while done < wanted:
                more = os.pwritev(file.fd, _without(chunk, done), offset + done)
                if not more:
                    raise OSError(errno.EIO, os.strerror(errno.EIO), file.path)
                done += more
            offset += wanted
        return offset - start

    def copy(self, source: File, target: File, target_offset: int, length: int, *, source_offset: int = 0) -> None:
        """Copy ``length`` bytes at ``source_offset`` of ``source`` to ``target_offset`` of ``target``, in the kernel if
        the filesystem can."""
        done = 0
        while done < length:
            start, place = source_offset + done, target_offset + done
            try:
                copied = os.copy_file_range(source.fd, target.fd, min(_COPY_BYTES, length - done), start, place)
            except OSError as error:
                if error.errno not in _NO_COPY:
                    raise
                block = self.read_at(source, start, min(_BLOCK_BYTES, length - done))
                copied = self.write_at(target, place, [block])
            if not copied:
                raise OSError(errno.EIO, os.strerror(errno.EIO), source.path)
            done += copied

    def truncate(self, file: File, length: int) -> None:
        """Set the length in bytes."""
        os.ftruncate(file.fd, length)

    def sync(self, file: File) -> None:
        """Wait until data and length of the file are on the disk."""
        os.fdatasync(file.fd)

    def sync_directory(self, path: str) -> None:
        """Wait until the entries of a directory are on the disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def reserve(self, file: File, length: int) -> None:
        """Reserve disk space without changing the file's length; quietly does nothing where that is unsupported."""
        _libc.fallocate(file.fd, _FALLOC_FL_KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(length))

    def read_file(self, path: str) -> bytes | None:
        """The whole content of a small file, None when it does not exist."""
        try:
            file = self.open(path, writable=False)
        except FileNotFoundError:
            return None
        return self.read_at(file, 0, self.size(file))

    def replace_file(self, path: str, content: bytes, mode: int = _FILE_MODE, temporary: str = "") -> None:
        """Put a new file in place of ``path`` so that a crash leaves the old or the new content, durably.

        ``temporary`` is the name of the file in progress, ``<path>.tmp`` by default.
        """
        temporary = temporary or path + ".tmp"
        file = self.open(temporary, create=True)
        try:
            self.truncate(file, 0)
            self.write_at(file, 0, [content])
            os.fchmod(file.fd, mode)
            self.sync(file)
            self.rename(temporary, path)
        except OSError:
            self.remove(temporary)
            raise
        self.sync_directory(os.path.dirname(path))

    def rename(self, source: str, target: str) -> None:
        """Rename, replacing ``target``."""
        os.rename(source, target)

    def remove(self, path: str) -> bool:
        """Remove a file; False when it was not there."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def exists(self, path: str) -> bool:
        """Whether something has this name."""
        return os.path.lexists(path)

    def look(self, path: str) -> FileStatus:
        """Size and age of a file that is not open. Raises `FileNotFoundError`."""
        found = os.stat(path)
        return FileStatus(found.st_size, found.st_mtime)

    def mode(self, path: str) -> int:
        """Permission bits."""
        return os.stat(path).st_mode & 0o7777

    def list_directory(self, path: str) -> list[str]:
        """Names in a directory, sorted."""
        return sorted(os.listdir(path))

    def lock_directory(self, path: str) -> File:
        """Take the advisory lock that marks the one owner of a directory, held until `unlock_directory` or the end
        of the process. Raises `BlockingIOError` when it is taken."""
        directory = File(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        fcntl.flock(directory.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return directory

    def unlock_directory(self, directory: File) -> None:
        """Give the lock back."""
        fcntl.flock(directory.fd, fcntl.LOCK_UN)

    @contextmanager
    def locked(self, file: File) -> Iterator[None]:
        """Keep others who lock the same file out, in this process or in another one; waits for them."""
        fcntl.flock(file.fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file.fd, fcntl.LOCK_UN)

    def space(self, path: str) -> SpaceInfo:
        """Total and available bytes of the filesystem that holds ``path``."""
        info = os.statvfs(path)
        reserved = info.f_bfree - info.f_bavail
        return SpaceInfo(info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize, reserved * info.f_frsize)


def _without(pieces: Sequence[Buffer], done: int) -> list[Buffer]:
    """What remains of ``pieces`` after their first ``done`` bytes."""
    for index, piece in enumerate(pieces):
        if done < len(piece):
            return [memoryview(piece)[done:], *pieces[index + 1 :]]
        done -= len(piece)
    return []


def error_text(error: OSError) -> str:
    """Reason of an error in the reference's style: lower-case, without numbers."""
    return (error.strerror or str(error)).lower()


def disk_error(doing: str, error: OSError) -> DiskError:
    """The domain error ``<doing>: <reason>`` for a failed operation."""
    return DiskError(f"{doing}: {error_text(error)}")


def file_error(doing: str, error: OSError) -> DiskError:
    """The same of an operation on several files: ``<doing>: <path>: <reason>``, as far as the error names one."""
    names = " to ".join(name for name in (error.filename, error.filename2) if name)
    return disk_error(f"{doing}: {names}" if names else doing, error)
