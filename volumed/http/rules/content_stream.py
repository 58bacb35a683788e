"""The data of one upload as they come: checked, measured and compressed piece by piece (http.md 4.2, 4.4, 4.5).

Pure: somebody else keeps the data. If it may be wanted, a compressed form grows beside them, and `feed` returns its
pieces; which of the two is stored turns out at the end.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from volumed.errors import FormatError
from volumed.formats.needle import Buffer
from volumed.http.text.compression import Compressor, DecompressedTooLarge, GunzipStream, NotGzip, gzip_stream
from volumed.http.text.quotedprintable import LINE_BYTES_MAX, decode_quoted_printable
from volumed.http.text.sniff import SNIFF_BYTES

__all__ = ["ContentStream", "QuotedPrintable"]


class ContentStream:
    """`feed` all data, then `finish`; afterwards the sizes are final."""

    def __init__(
        self,
        *,
        is_gzipped: bool,
        wants_md5: bool,
        may_compress: Callable[[bytes], bool],
    ) -> None:
        """``may_compress`` is asked once, with the first `SNIFF_BYTES` bytes."""
        self._may_compress = may_compress
        self._md5 = hashlib.md5(usedforsecurity=False) if wants_md5 else None
        self._plain_md5 = hashlib.md5(usedforsecurity=False) if wants_md5 and is_gzipped else None
        self._gunzip = GunzipStream() if is_gzipped else None
        self._gzip: Compressor | None = None
        self._undecided: list[Buffer] | None = []
        self.start = b""
        """The first bytes, as far as sniffing looks at them."""
        self.size = 0
        self.packed_size = 0
        """Of the compressed form, 0 if there is none."""
        self.error: DecompressedTooLarge | None = None
        """Why the data cannot be taken, should they be chosen."""
        self._plain_size = 0

    @property
    def is_heavy(self) -> bool:
        """Whether a piece takes long enough for a thread."""
        return not (self._md5 is None and self._gunzip is None and self._gzip is None)

    @property
    def original_size(self) -> int:
        """Of the decompressed data, if they could be decompressed."""
        return self._plain_size if self._is_plain_known else self.size

    @property
    def md5(self) -> str:
        """Base64 MD5 of the data before compression; only if asked for."""
        digest = self._plain_md5 if self._is_plain_known else self._md5
        return base64.b64encode(digest.digest()).decode() if digest is not None else ""

    def feed(self, data: Buffer) -> bytes:
        """The next bytes; what is to be kept compressed of them and of those before."""
        self.size += len(data)
        if self._md5 is not None:
            self._md5.update(data)
        if self._gunzip is not None:
            self._count_plain(data)
        packed = self._compress(data)
        self.packed_size += len(packed)
        return packed

    def finish(self) -> bytes:
        """The data are complete; the rest of their compressed form."""
        packed = self._decide() if self._undecided is not None else b""
        if self._gzip is not None:
            packed += self._gzip.flush()
        self.packed_size += len(packed)
        return packed

    @property
    def _is_plain_known(self) -> bool:
        return self._gunzip is not None and self._gunzip.complete

    def _count_plain(self, data: Buffer) -> None:
        assert self._gunzip is not None
        try:
            for piece in self._gunzip.feed(data):
                self._plain_size += len(piece)
                if self._plain_md5 is not None:
                    self._plain_md5.update(piece)
        except NotGzip:
            self._gunzip = None
        except DecompressedTooLarge as error:
            self._gunzip, self.error = None, error

    def _compress(self, data: Buffer) -> bytes:
        if self._undecided is None:
            return b"" if self._gzip is None else self._gzip.compress(data)
        self._undecided.append(data)
        self.start += bytes(data[: SNIFF_BYTES - len(self.start)])
        return self._decide() if len(self.start) == SNIFF_BYTES else b""

    def _decide(self) -> bytes:
        held, self._undecided = self._undecided or [], None
        if self.size and self._may_compress(self.start):
            self._gzip = gzip_stream()
            return b"".join([self._gzip.compress(data) for data in held])
        return b""


class QuotedPrintable:
    """Decodes a part with that transfer encoding, line by line."""

    def __init__(self) -> None:
        self._rest = b""
        self._error: FormatError | None = None

    def feed(self, data: Buffer) -> bytes:
        """The next bytes, as far as their lines are complete. What is wrong with them counts at the end."""
        text = self._rest + bytes(data)
        end = text.rfind(b"\n") + 1
        self._rest = text[end : end + LINE_BYTES_MAX + 1]
        return self._decode(text[:end])

    def finish(self) -> bytes:
        """What is left. Raises `FormatError`."""
        rest = self._decode(self._rest)
        if self._error is not None:
            raise self._error
        return rest

    def _decode(self, text: bytes) -> bytes:
        if self._error is None:
            try:
                return decode_quoted_printable(text)
            except FormatError as error:
                self._error = error
        return b""
