"""All cases of the suite by name, `topic: case`."""

from __future__ import annotations

from tests.interop.differential.cases import (
    bodies,
    compression,
    conditions,
    deletes,
    forms,
    manifests,
    methods,
    names,
    objects,
    pages,
    pairs,
    paths,
    protocol,
    ranges,
    sniffing,
    uploads,
)
from tests.interop.differential.kit import Case

__all__ = ["CASES", "TOPICS"]

_MODULES = (
    pages,  # first: what /status counts
    paths,
    protocol,
    bodies,
    methods,
    conditions,
    pairs,
    names,
    sniffing,
    compression,
    ranges,
    manifests,
    objects,
    uploads,
    forms,
    deletes,
)

TOPICS = [module.__name__.rpartition(".")[2] for module in _MODULES]
CASES: dict[str, Case] = {}
for module in _MODULES:
    for case in module.CASES:
        name = f"{module.__name__.rpartition('.')[2]}: {case.name}"
        assert name not in CASES, f"two cases are called {name!r}"
        CASES[name] = case._replace(name=name)
