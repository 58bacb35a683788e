"""The real gRPC front, which reads shards on dying sectors (``sick_files``)."""

from __future__ import annotations

from tests.probe.fakes import sick_files
from volumed.grpc.front import main

if __name__ == "__main__":
    sick_files.install()
    raise SystemExit(main())
