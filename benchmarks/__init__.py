"""volumed against ``weed volume``: the same loads, alternately, on the same machine. Run by ``make bench``."""

__all__: list[str] = []
