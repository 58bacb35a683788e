"""Object stores: whole volumes tiered to them, and ranges of foreign objects (docs/spec/grpc.md 5)."""

__all__: list[str] = []
