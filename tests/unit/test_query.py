"""Queries over JSON: paths, filters, records (docs/spec/grpc.md 3.30). Expectations are the reference's answers."""

from __future__ import annotations

import pytest

from volumed.errors import FormatError
from volumed.query.glob import Glob
from volumed.query.path import find, parse_path
from volumed.query.scan import number_of, values
from volumed.query.select import Filter, Selection, selected

DOCUMENT = (
    b'{"name":"alice","score":10,"t":true,"f":false,"n":null,"o":{"x":1,"y.z":"dot"},"arr":[1,"two",{"k":3}],'
    b'"esc":"a\\"b\\u00e9"}'
)

PATHS = {
    "name": b'"alice"', "o": b'{"x":1,"y.z":"dot"}', "o.x": b"1", "o.y\\.z": b'"dot"', "arr.0": b"1",
    "arr.1": b'"two"', "arr.2.k": b"3", "arr.#": b"3", "arr.#.k": b"[3]", "arr.9": None, "missing": None, "": None,
    "na*": b'"alice"', "n?me": b'"alice"', "o.*": b"1", "name.x": None, "esc": b'"a\\"b\\u00e9"', "arr.x": None,
    "n": b"null", "#": None, "na\\*": None, "arr.00": b"1",
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_what_stands_at_a_path(path: str) -> None:
    parsed = parse_path(path)
    assert (None if parsed is None else find(DOCUMENT, parsed)) == PATHS[path]


@pytest.mark.parametrize("path", ["@this", "@keys.0", "{name,score}", "[name]", "..#", '!"x"', "arr.#(k==3)"])
def test_paths_that_only_the_reference_understands_are_refused(path: str) -> None:
    with pytest.raises(FormatError, match="is not supported"):
        parse_path(path)


def test_a_name_that_only_looks_like_a_modifier_is_one() -> None:
    assert find(b'{"@type":7}', parse_path("@type") or ()) == b"7"


def test_of_members_with_one_name_the_first_that_leads_further_counts() -> None:
    path = parse_path("a.b") or ()
    assert find(b'{"a":1,"a":{"c":2},"a":{"b":3},"a":{"b":4}}', path) == b"3"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"a":1}\n{"b":[2]}{"c":3}', [b'{"a":1}', b'{"b":[2]}', b'{"c":3}']),
        (b' 17 "s{" [1,2]\n', [b"17", b'"s{"', b"[1,2]"]),
        (b'{"a":"}"', [b'{"a":"}"']),
        (b"", []),
        (b"?? ; {}", [b"{}"]),
        (b'17{"a":1}{"b":2}', [b'17{"a":1', b'{"b":2}']),
    ],
    ids=["lines", "scalars", "cut short", "empty", "rubbish", "glued to a number"],
)
def test_values_are_taken_one_after_the_other(text: bytes, found: list[bytes]) -> None:
    assert list(values(text)) == found


FILTERS = {
    ("name", "="): ["alice"], ("name", "!="): ["bob"], ("name", "<"): ["b"], ("name", "%"): ["al*", "?lice", "*"],
    ("name", "!%"): ["b*"], ("score", "="): ["10", "1e1"], ("score", ">"): ["9", "x"], ("score", "<="): ["10"],
    ("t", "="): ["true"], ("t", "!="): ["x"], ("t", ">"): ["false"], ("t", ">="): ["anything"],
    ("f", "="): ["false"], ("f", "!="): ["true"], ("f", "<"): ["true"], ("f", "<="): ["anything"],
    ("o", ""): ["anything"], ("n", ""): [""],
}  # fmt: skip
REFUSED = {
    ("name", "="): ["al*"], ("name", "%"): ["a"], ("name", "~"): ["alice"], ("score", "="): ["x"],
    ("score", "%"): ["1*"], ("t", "<"): ["false"], ("f", ">"): ["true"], ("n", "="): ["null"], ("o", "="): ["{"],
    ("arr", "="): ["1"], ("missing", ""): [""], ("missing", "!="): ["1"], ("", ""): [""],
}  # fmt: skip


@pytest.mark.parametrize(("field", "operand"), FILTERS, ids=str)
def test_filters_that_accept(field: str, operand: str) -> None:
    assert all(Filter(field, operand, wanted).accepts(DOCUMENT) for wanted in FILTERS[field, operand])


@pytest.mark.parametrize(("field", "operand"), REFUSED, ids=str)
def test_filters_that_refuse(field: str, operand: str) -> None:
    assert not any(Filter(field, operand, wanted).accepts(DOCUMENT) for wanted in REFUSED[field, operand])


def test_records_are_text_without_separators() -> None:
    lines = b'{"name":"a","n":null,"x":{"y":[1, 2]}}\n{"other":1}{"name":"b"}'
    records = selected(lines, Filter("name", "", ""), Selection(["name", "n", "x.y", "é"]))
    assert b"".join(records).decode() == '{name:"a",n:,x.y:[1, 2],é:}{name:"b",n:,x.y:,é:}'


def test_numbers_are_read_as_far_as_they_are_numbers() -> None:
    texts = ("010", "-2.5", "1e3", "x", "", "1_0", "0x10")
    assert [number_of(text) for text in texts] == [10, -2.5, 1000, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("", "", True), ("*", "", True), ("a*c", "abc", True), ("a*c", "ac", True), ("a*c", "acb", False),
        ("a*a", "a", False), ("?", "é", True), ("*b*b*", "abab", True), ("*b*b*b*", "abab", False),
        ("\\*", "*", True), ("\\*", "x", False), ("a.c", "abc", False), ("*c", "abc\nabc", True),
    ],
)  # fmt: skip
def test_globs(pattern: str, text: str, fits: bool) -> None:
    assert Glob(pattern).matches(text) == fits


@pytest.mark.timeout(30)
def test_no_pattern_and_no_text_take_long() -> None:
    assert not Glob("*a" * 500 + "b").matches("a" * 10_000)
    deep = b'{"a":' * 50_000
    assert find(deep, parse_path("a.a.a") or ()) is not None
    assert list(values(b'"' + b"\\n" * 200_000)) != []
