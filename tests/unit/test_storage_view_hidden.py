"""While a disk that may hold a volume does not serve, "not here" is never the answer."""

from __future__ import annotations

import pytest

from volumed.config.node import DiskConfig, NodeConfig
from volumed.errors import DiskUnavailable
from volumed.nodetable import DiskState, create_node_table
from volumed.storage.view import Found, NodeView


@pytest.mark.parametrize(
    ("state", "map_path", "certain"),
    [
        (DiskState.ABSENT, "", False),
        (DiskState.OPENING, "", False),
        (DiskState.STUCK, "/map", False),
        (DiskState.FAILED, "/map", False),
        (DiskState.FAILED, "", True),
    ],
    ids=["absent", "opening", "stuck", "failed", "never opened"],
)
def test_unknown_volumes(tmp_path, state, map_path, certain):
    table = create_node_table(str(tmp_path / "table"), disks=1, fronts=1)
    table.disks[0].set_map_path(map_path)
    table.disks[0].set_state(state)
    config = NodeConfig(
        runtime_dir=str(tmp_path), map_dir="", state_dir="", disks=(DiskConfig(0, str(tmp_path), str(tmp_path)),)
    )
    view = NodeView(config, table)
    try:
        if certain:
            assert view.locate(7) is None
            assert view.read_now(7, 1).found is Found.NO_VOLUME
        else:
            with pytest.raises(DiskUnavailable, match=f"disk 0 is {state.name.lower()}"):
                view.locate(7)
            with pytest.raises(DiskUnavailable):
                view.read_now(7, 1)
    finally:
        view.close()
        table.close()
