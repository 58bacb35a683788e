"""volumed: a storage node for SeaweedFS clusters, one process per disk."""

__all__ = ["REFERENCE_VERSION", "SIZE_LIMITS", "__version__"]

__version__ = "0.1.0"

REFERENCE_VERSION = "4.48"
"""Version of the reference server whose behaviour is reproduced and announced."""

SIZE_LIMITS = {5: "8000GB", 4: "30GB"}
"""Width of offsets in bytes → how the reference names the largest volume that they allow."""
