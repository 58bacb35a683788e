"""Build step: generate the protobuf and gRPC modules of ``volumed.wire`` from ``proto/``."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PROTO_DIR = ROOT / "proto"
WIRE_DIR = ROOT / "volumed" / "wire"


def generate() -> None:
    """Write the modules of every file of ``proto/`` into ``volumed/wire``."""
    with TemporaryDirectory(dir=ROOT, prefix=".proto-") as temporary:
        compile_protos(Path(temporary))
        for module in Path(temporary).iterdir():
            make_imports_relative(module)
            # One rename each, so that a process importing them meanwhile never sees half a module.
            module.replace(WIRE_DIR / module.name)


def compile_protos(target: Path) -> None:
    """Run protoc: messages, their type stubs, and services."""
    from grpc_tools import protoc

    sources = sorted(path.name for path in PROTO_DIR.glob("*.proto"))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    status = protoc.main(["protoc", f"-I{PROTO_DIR}", *outputs, *sources])
    if status:
        raise SystemExit(f"protoc failed with status {status}")


def make_imports_relative(module: Path) -> None:
    """protoc imports its siblings as top-level modules; here they live in a package."""
    text = module.read_text()
    module.write_text(re.sub(r"^import (\w+_pb2)", r"from . import \1", text, flags=re.MULTILINE))


class BuildWithProtos(build_py):
    """``build_py`` that writes the generated modules first, also for editable installs."""

    def run(self) -> None:
        generate()
        super().run()


setup(cmdclass={"build_py": BuildWithProtos})
