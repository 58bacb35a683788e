"""Where a volume's files are, and what all volumes of one disk share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from volumed.config.node import DiskConfig, NodeConfig
from volumed.formats.idx import ROW_LENGTH
from volumed.formats.volumename import format_base_name
from volumed.storage.fileio import FileIO
from volumed.storage.needle_map import NeedleMap

__all__ = ["COPYING", "DATA_EXTENSIONS", "INDEX_EXTENSIONS", "DiskSite", "VolumePaths"]

DATA_EXTENSIONS = (".dat", ".vif", ".cpd", ".cpc", ".note", ".unavailable")
"""Files of a volume in the data directory (docs/spec/storage.md 4.6)."""

INDEX_EXTENSIONS = (".idx", ".sdx", ".cpx", ".idx.tmp")
"""Files of a volume in the index directory."""

COPYING = ".copying"
"""What the name of a file ends with while it is received."""


@dataclass(frozen=True, slots=True)
class VolumePaths:
    """Paths of one volume's files, by extension."""

    data_directory: str
    index_directory: str
    base_name: str

    def data(self, extension: str) -> str:
        """A file in the data directory."""
        return os.path.join(self.data_directory, self.base_name + extension)

    def index(self, extension: str) -> str:
        """A file in the index directory."""
        return os.path.join(self.index_directory, self.base_name + extension)

    def places(self, extension: str) -> list[str]:
        """Where a file may be that either directory can have: in the data directory first."""
        return list(dict.fromkeys((self.data(extension), self.index(extension))))

    def directories(self) -> Iterator[str]:
        """The one or two directories that hold the volume."""
        yield self.data_directory
        if self.index_directory != self.data_directory:
            yield self.index_directory


@dataclass(frozen=True, slots=True)
class DiskSite:
    """What loading and running a volume needs of its disk."""

    config: DiskConfig
    files: FileIO
    map: NeedleMap
    offset_width: int
    index_mates: tuple[str, ...] = ()
    """Data directories of other disks with the same index directory."""

    @classmethod
    def of(cls, config: DiskConfig, node: NodeConfig, files: FileIO, needle_map: NeedleMap) -> DiskSite:
        """Of a disk of a node."""
        return cls(config, files, needle_map, node.offset_width, node.index_mates(config))

    @property
    def row_length(self) -> int:
        """Bytes of an `.idx` row."""
        return ROW_LENGTH[self.offset_width]

    def paths(self, collection: str, volume_id: int) -> VolumePaths:
        """Paths of a volume of this disk."""
        base_name = format_base_name(collection, volume_id)
        return VolumePaths(self.config.directory, self.config.idx_directory, base_name)
