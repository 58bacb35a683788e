"""The command line: ``volumed [global flags] [volume|standalone] [flags]`` (docs/spec/http.md 9.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from volumed.config.flagtable import FLAGS, GLOBAL, NODE, Flag
from volumed.config.flagtypes import FLAG_TYPES
from volumed.config.options_file import read_options
from volumed.formats.numbers import quote

__all__ = ["STANDALONE", "VOLUME", "CommandLine", "FlagError", "parse_command_line", "usage"]

VOLUME, STANDALONE = "volume", "standalone"
_BY_NAME = {flag.name: flag for flag in FLAGS}


class FlagError(Exception):
    """A wrong command line; exit status 2. An empty text asks for the usage only (``-h``)."""


@dataclass
class CommandLine:
    """Effective values of all flags, and which were given on the command line or in the options file."""

    mode: str
    values: dict[str, object]
    given: set[str] = field(default_factory=set)

    def text(self, name: str) -> str:
        """Value of a string flag."""
        return str(self.values[name])

    def number(self, name: str) -> int:
        """Value of an integer flag."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def boolean(self, name: str) -> bool:
        """Value of a flag that is on or off."""
        return bool(self.values[name])

    def seconds(self, name: str) -> float:
        """Value of a duration flag."""
        value = self.values[name]
        assert isinstance(value, float)
        return value

    def ineffective(self) -> list[str]:
        """Names of given flags that change nothing in this build, sorted."""
        return sorted(name for name in self.given if not _BY_NAME[name].effective)


def parse_command_line(arguments: Sequence[str]) -> CommandLine:
    """Parse everything after the program name. Raises `FlagError`.

    Without a ``volume`` or ``standalone`` word the flags of both scopes may be mixed, as some callers do.
    """
    line = CommandLine(VOLUME, {flag.name: flag.default for flag in FLAGS})
    rest = _take_flags(arguments, FLAGS, line)
    if rest and rest[0] in (VOLUME, STANDALONE):
        line.mode = rest[0]
        _take_flags(rest[1:], [flag for flag in FLAGS if flag.scope == NODE], line)
    elif rest and not any(_BY_NAME[name].scope == NODE for name in line.given):
        raise FlagError(f"volumed: unknown subcommand {quote(rest[0])}")
    if line.values["options"]:
        _merge_options(line)
    return line


def _take_flags(arguments: Sequence[str], known: Iterable[Flag], line: CommandLine) -> Sequence[str]:
    """Consume flags into ``line`` up to ``--`` or the first word that is none; the rest is returned."""
    flags = {flag.name: flag for flag in known}
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if len(argument) < 2 or argument[0] != "-":
            break
        at += 1
        if argument == "--":
            break
        name, equals, value = argument[2 if argument[1] == "-" else 1 :].partition("=")
        if not name or name[0] in "-=":
            raise FlagError(f"bad flag syntax: {argument}")
        flag = flags.get(name)
        if flag is None:
            raise FlagError("" if name in ("h", "help") else f"flag provided but not defined: -{name}")
        if not equals:
            if flag.kind == "bool":
                value = "true"
            elif at == len(arguments):
                raise FlagError(f"flag needs an argument: -{name}")
            else:
                value = arguments[at]
                at += 1
        _set(flag, value, line)
    return arguments[at:]


def _set(flag: Flag, text: str, line: CommandLine) -> None:
    try:
        line.values[flag.name] = FLAG_TYPES[flag.kind](text)
    except ValueError as error:
        if flag.kind == "bool":
            raise FlagError(f"invalid boolean value {quote(text)} for -{flag.name}: {error}") from None
        raise FlagError(f"invalid value {quote(text)} for flag -{flag.name}: {error}") from None
    line.given.add(flag.name)


def _merge_options(line: CommandLine) -> None:
    """Fill what the command line left open from the options file."""
    path = line.text("options")
    try:
        content = Path(path).read_text(errors="surrogateescape")
    except OSError as error:
        raise FlagError(f"open {path}: {(error.strerror or '').lower()}") from None
    on_command_line = frozenset(line.given)
    for name, value in read_options(content):
        flag = _BY_NAME.get(name)
        if flag is None or name in on_command_line:
            continue
        text = "true" if flag.kind == "bool" and value is None else value or ""
        try:
            line.values[name] = FLAG_TYPES[flag.kind](text)
        except ValueError as error:
            kind = "boolean value" if flag.kind == "bool" else "value"
            raise FlagError(f"invalid {kind} {quote(text)} for configuration variable {name}: {error}") from None
        line.given.add(name)


def usage() -> str:
    """Help text: all flags with type, meaning and default."""
    parts = ["Usage: volumed [global flags] [volume|standalone] [flags]\n"]
    for scope, title in ((GLOBAL, "Global flags, before the subcommand:"), (NODE, "Flags:")):
        parts.append(title)
        parts += [_describe(flag) for flag in FLAGS if flag.scope == scope]
        parts.append("")
    return "\n".join(parts)


def _describe(flag: Flag) -> str:
    kind = "" if flag.kind == "bool" else f" {'int' if flag.kind in ('level', 'severity') else flag.kind}"
    default = flag.default
    shown = f" (default {quote(default) if isinstance(default, str) else _shown(default)})" if default else ""
    inert = "" if flag.effective else " [accepted, without effect in this build]"
    return f"  -{flag.name}{kind}\n    \t{flag.help}{shown}{inert}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}s" if isinstance(value, float) else str(value)
