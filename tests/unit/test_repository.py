"""The repository keeps its own rules: sizes, layering, documents that match the code."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from volumed.config.flags import parse_command_line
from volumed.config.flagtable import FLAGS
from volumed.config.node import NodeConfig
from volumed.grpc.server import served_methods
from volumed.wire import volume_server_pb2

ROOT = Path(__file__).parents[2]
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
PACKAGES = ("volumed/", "workers/", "supervisor/")
OPTION = re.compile(r"^#([A-Za-z][\w.]*)=(.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# Put together here, so that this file does not contain them.
FOREIGN = ("/" + "work/", "../" + "shared", "help" + "er session")


@cache
def tracked() -> tuple[str, ...]:
    """Files under version control that are there, relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return tuple(name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file())


def modules(*prefixes: str) -> Iterator[str]:
    return (name for name in tracked() if name.endswith(".py") and name.startswith(prefixes or ""))


@cache
def source(name: str) -> str:
    return (ROOT / name).read_text()


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(source(name))


def test_modules_are_short():
    lengths = {name: source(name).count("\n") for name in modules()}
    assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES_MAX} == {}


def test_functions_are_short():
    long = {}
    for name in modules():
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long[f"{name}:{node.name}"] = lines
    assert long == {}


def test_nothing_that_ships_prints():
    """The command writes to standard output on purpose, with sys.stdout; the linter watches the tests."""
    found = [
        f"{name}:{node.lineno}"
        for name in modules(*PACKAGES)
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []


def test_modules_say_what_they_are_for_and_what_they_export():
    wanting = []
    for name in modules(*PACKAGES):
        exports = any(
            isinstance(target, ast.Name) and target.id == "__all__"
            for node in tree(name).body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        )
        only_docstring = name.endswith("__init__.py") and len(tree(name).body) == 1
        if not ast.get_docstring(tree(name)) or not (exports or only_docstring):
            wanting.append(name)
    assert wanting == []


def imports(name: str) -> Iterator[str]:
    """Full names of what a module imports, wherever it does."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_formats_know_nothing_of_the_project_but_its_errors():
    ours = ("volumed", "workers", "supervisor")
    allowed = ("volumed.errors", "volumed.formats")
    found = [
        f"{name}: {target}"
        for name in modules("volumed/formats/")
        for target in imports(name)
        if target.startswith(ours) and not target.startswith(allowed)
    ]
    assert found == []


def test_packages_of_the_http_front_use_only_those_below_them():
    layers = ("text", "protocol", "rules", "objects", "handlers", "pages")
    upward = [
        (name, target)
        for level, layer in enumerate(layers)
        for name in modules(f"volumed/http/{layer}/")
        for target in imports(name)
        if target.startswith("volumed.http.") and target.split(".")[2] not in layers[: level + 1]
    ]
    assert upward == []


def test_the_contract_is_in_the_repository():
    parts = ("erasure-coding", "grpc", "http", "storage")
    assert {f"docs/spec/{part}.md" for part in parts} <= set(tracked())


def test_links_between_documents_resolve():
    broken = []
    for name in tracked():
        if name.endswith(".md"):
            for target in LINK.findall(FENCED.sub("", source(name))):
                if "://" not in target and not (ROOT / name).parent.joinpath(target).exists():
                    broken.append(f"{name}: {target}")
    assert broken == []


def test_nothing_names_the_place_where_it_was_made():
    contents = {name: (ROOT / name).read_bytes() for name in tracked()}
    assert [(name, word) for name, data in contents.items() for word in FOREIGN if word.encode() in data] == []


def test_the_options_file_lists_every_flag_with_its_default(tmp_path):
    options = source("conf/volumed.options")
    names = [name for name, _ in OPTION.findall(options)]
    assert sorted(names) == sorted(flag.name for flag in FLAGS)

    everything_set = tmp_path / "options"
    everything_set.write_text(OPTION.sub(r"\1=\2", options))
    line = parse_command_line(["-options", str(everything_set)])
    del line.values["options"]
    assert line.values == {flag.name: flag.default for flag in FLAGS if flag.name != "options"}
    assert line.given == set(names)


def test_the_options_file_says_which_flags_do_nothing():
    described = re.findall(r"^# (.*)\n#([A-Za-z][\w.]*)=", source("conf/volumed.options"), re.MULTILINE)
    inert = {name for text, name in described if "[no effect yet]" in text}
    assert inert == {flag.name for flag in FLAGS if not flag.effective}


def test_every_runtime_dependency_is_explained():
    document = source("docs/dependencies.md").partition("## At run time")[2].partition("\n## ")[0]
    declared = tomllib.loads(source("pyproject.toml"))["project"]["dependencies"]
    explained = re.findall(r"^\| `([\w-]+)`", document, re.MULTILINE)
    assert sorted(explained) == sorted(re.split(r"[^\w-]", item)[0] for item in declared)


def test_the_compatibility_table_knows_every_grpc_method_and_which_are_served():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", source("docs/compatibility.md"), re.MULTILINE)
    methods = volume_server_pb2.DESCRIPTOR.services_by_name["VolumeServer"].methods
    assert sorted(name for name, _ in rows) == sorted(method.name for method in methods)
    node: Any = SimpleNamespace(config=NodeConfig(runtime_dir="", map_dir="", state_dir="", disks=()), ec=None)
    assert {name for name, state in rows if state == "served"} == set(served_methods(node))


def test_guarantees_name_existing_tests():
    named = set(re.findall(r"`(test_\w+)`", source("docs/guarantees.md")))
    defined = {
        node.name
        for name in modules("tests/")
        for node in ast.walk(tree(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert named
    assert named - defined == set()
