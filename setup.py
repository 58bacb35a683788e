"""Build step: generate the protobuf and gRPC modules of ``volumed.wire`` from ``proto/``."""

import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PROTO_DIR = ROOT / "proto"
WIRE_DIR = ROOT / "volumed" / "wire"


def generate() -> None:
    """Run protoc for every file of ``proto/`` and make the imports package-relative."""
    from grpc_tools import protoc

    sources = sorted(p.name for p in PROTO_DIR.glob("*.proto"))
    code = protoc.main([
        "protoc", f"-I{PROTO_DIR}", f"--python_out={WIRE_DIR}", f"--pyi_out={WIRE_DIR}",
        f"--grpc_python_out={WIRE_DIR}", *sources,
    ])
    if code:
        raise SystemExit(f"protoc failed with status {code}")
    for module in WIRE_DIR.glob("*_pb2*.py*"):
        text = module.read_text()
        module.write_text(re.sub(r"^import (\w+_pb2)", r"from . import \1", text, flags=re.MULTILINE))


class BuildWithProtos(build_py):
    """``build_py`` that writes the generated modules first, also for editable installs."""

    def run(self) -> None:
        generate()
        super().run()


setup(cmdclass={"build_py": BuildWithProtos})
