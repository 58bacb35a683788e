"""Queries over JSON inside needles: pure computation (docs/spec/grpc.md 3.30)."""

__all__: list[str] = []
