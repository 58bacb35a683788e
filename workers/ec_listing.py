"""Files of erasure coded volumes on one disk, for those who decide over several (docs/spec/erasure-coding.md 4.5 to
4.7): what is there, copies from another disk, and removal."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from volumed.bus.ec_calls import EcDirectories, EcFilesView, EcListing, ListEcFiles, MirrorSidecars, RemoveEcFiles
from volumed.bus.router import Reply
from volumed.erasure.code import SHARDS_MAX
from volumed.erasure.discovery import EcFiles
from volumed.erasure.errors import OtherEncodeRun
from volumed.erasure.names import JOURNAL
from volumed.errors import FormatError
from volumed.storage.disk import Disk
from volumed.storage.ec_files import list_ec_files, mirror_files, paths_elsewhere, remove_ec_files
from volumed.storage.ec_journal import summarize_journals
from volumed.storage.site import DiskSite, VolumePaths
from workers.ec_volumes import EcVolumes
from workers.host import Shell, Work
from workers.refusals import refuse

__all__ = ["EcListings"]


class EcListings:
    """Used on the loop thread."""

    def __init__(self, disk: Disk, shell: Shell, volumes: EcVolumes) -> None:
        self._site = disk.site
        self._shell = shell
        self._volumes = volumes
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            ListEcFiles: self._list,
            MirrorSidecars: self._mirror,
            RemoveEcFiles: self._remove,
        }

    def _list(self, request: ListEcFiles, reply: Reply) -> None:
        mounted = {key: sorted(volume.shards) for key, volume in self._volumes.volumes.items()}
        work = partial(_listing, self._site, request.volume_id, mounted)
        self._shell.in_background(work, reply.result, partial(refuse, reply, "list"))

    def _mirror(self, request: MirrorSidecars, reply: Reply) -> None:
        source = paths_elsewhere(request.source, request.collection, request.volume_id)
        paths = self._site.paths(request.collection, request.volume_id)
        work = partial(_mirror_same, self._site, paths, source, request.extensions)
        failed = partial(refuse, reply, f"mirror the sidecars of volume {request.volume_id}")
        self._volumes.turns.run(request.volume_id, work, lambda _: reply.result(), failed, Work.ELSEWHERE)

    def _remove(self, request: RemoveEcFiles, reply: Reply) -> None:
        key = request.collection, request.volume_id

        def work() -> None:
            files = list_ec_files(self._site, request.volume_id).get(key)
            if files is not None:
                remove_ec_files(self._site, files, request.reason)

        failed = partial(refuse, reply, f"remove the shards of volume {request.volume_id}")
        self._volumes.run_unmounted(request.volume_id, range(SHARDS_MAX), work, lambda _: reply.result(), failed)


def _mirror_same(site: DiskSite, paths: VolumePaths, source: VolumePaths, extensions: Collection[str]) -> None:
    """In the background. Raises `OtherEncodeRun`, `OSError`."""
    from volumed.storage.ec_identity import are_of_one_run  # few disks ever need it

    # DEVIATE: the reference mounts shards with the index and the layout of whatever run another disk has.
    if are_of_one_run(site.files, site.offset_width, paths, source) is False:
        raise OtherEncodeRun.on_disk(source.data(""))
    mirror_files(site, paths, source, extensions)


def _listing(site: DiskSite, volume_id: int, mounted: dict[int, list[int]]) -> EcListing:
    """In the background."""
    directories = EcDirectories(site.config.directory, site.config.idx_directory)
    volumes = list_ec_files(site, volume_id).values()
    return EcListing(directories, [_view(site, files, mounted.get(files.volume_id, [])) for files in volumes])


def _view(site: DiskSite, files: EcFiles, mounted: list[int]) -> EcFilesView:
    from volumed.storage.ec_volume import read_geometry  # only disks with such volumes pay for what it imports

    dat_size = data_shards = encode_ts_ns = 0
    try:
        if files.shards:
            geometry = read_geometry(site.files, site.paths(files.collection, files.volume_id))
            dat_size, data_shards, encode_ts_ns = geometry.dat_size, geometry.ratio.data, geometry.encode_ts_ns
    except (FormatError, OSError):
        pass  # nobody may guess
    return EcFilesView(
        collection=files.collection,
        volume_id=files.volume_id,
        shards=files.shards,
        empty_shards=sorted(files.empty_ids),
        data=files.data,
        index=files.index,
        mounted=mounted,
        dat_size=dat_size,
        data_shards=data_shards,
        encode_ts_ns=encode_ts_ns,
        deletions=_deletions(site, files),
    )


def _deletions(site: DiskSite, files: EcFiles) -> tuple[int, int] | None:
    # In a journal that disks share may be what the readers of this one do not know yet.
    if site.index_mates or not any(there.get(JOURNAL) for there in (files.data, files.index)):
        return None
    try:
        return summarize_journals(site.files, site.paths(files.collection, files.volume_id))
    except OSError:
        return None
