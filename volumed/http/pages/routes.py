"""Which paths are pages of the framework's; all others are file ids (http.md 1.2)."""

from __future__ import annotations

from volumed.config.node import NodeConfig
from volumed.profiling.pages import is_profiling_path

__all__ = ["STATIC_PREFIX", "STATUS_PAGE", "is_page"]

STATIC_PREFIX = "/seaweedfsstatic/"
STATUS_PAGE = "/ui/index.html"
_PUBLIC = frozenset({"/favicon.ico", "/seaweedfsstatic"})
_ADMIN = _PUBLIC | {"/status", "/healthz", "/readyz"}
_STANDALONE = frozenset({"/dir/assign", "/dir/lookup"})


def is_page(path: str, config: NodeConfig, *, public: bool) -> bool:
    """Whether the path is served by a resource of `volumed.http.pages.app` on this port."""
    if path.startswith(STATIC_PREFIX):
        return True
    if public:
        return path in _PUBLIC
    if path == STATUS_PAGE:
        return config.shows_ui
    if config.pprof and is_profiling_path(path):
        return True
    return path in _ADMIN or (config.standalone and path in _STANDALONE)
