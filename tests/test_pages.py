"""Every command in README, CONTRIBUTING, docs and the recipes' pages: run, or parsed where a mark says why not more.

A block of commands is run as it stands unless an HTML comment comes before it: `<!-- parsed: REASON -->` has its
commands read by their parsers, files that they name in the repository looked for, and `make` targets and scripts too;
`<!-- shown: REASON -->` is for what would change the machine. Of commands within a line, which may be parts of one, the
names of commands, options, scripts, modules and `make` targets are looked up.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cli.function import function_parser, spell_out
from harness.cli.main import COMMANDS, main
from tests.paths import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("configs/**/README.md")),
]
MARK = re.compile(r"<!-- (parsed|shown): (.+?) -->")
COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )?(?:harness(?= [a-z-])|python|make|pip|bash|(?:\.venv/bin/)\w+) \S")
BLOCK = re.compile(
    r"(?P<mark><!--[^\n]*-->\n+)?"
    # A block of another language is passed over whole.
    r"(?:^```(?!(?:bash|sh)$)\w[^\n]*\n.*?^```$|^```(?:bash|sh)?\n(?P<fenced>.*?)^```$|"
    r"(?P<indented>(?:^    [^\n]*\n|^\n(?=    ))+))",
    re.MULTILINE | re.DOTALL,
)


INLINE = re.compile(r"`((?:harness|python|make) [^`\n]+)`")
TO_FILL_IN = re.compile(r"\.\.\.|\b[A-Z]{3,}\b")


@dataclass(frozen=True)
class Block:
    """Commands of a page that stand together."""

    page: str
    line: int
    mark: str
    """"parsed", "shown", or "" for those that are run."""
    commands: tuple[str, ...]


def commands_of(text: str) -> tuple[str, ...]:
    """The commands of a block, whole, with shell variables that the block sets replaced and comments left out."""
    found, variables = [], {}
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        line = line.strip()
        if assigned := re.fullmatch(r"(\w+)=(\S+)", line):
            variables[assigned[1]] = assigned[2]
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        if COMMAND.match(line):
            found.append(re.sub(r"\s+#.*", "", line))
    return tuple(found)


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in BLOCK.finditer(text):
        commands = commands_of(match["fenced"] or match["indented"] or "")
        if commands:
            mark = MARK.match(match["mark"] or "")
            number = text.count("\n", 0, match.start()) + 1
            found.append(Block(str(page.relative_to(ROOT)), number, mark[1] if mark else "", commands))
    return found


def inline_commands(page: Path) -> Iterator[tuple[str, str]]:
    """(page and line, command) of each command within a line that has nothing to fill in."""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        for command in INLINE.findall(line):
            if not TO_FILL_IN.search(command):
                yield f"{page.relative_to(ROOT)}:{number}", command


ALL = [block for page in PAGES for block in blocks(page)]


@functools.cache
def parser(command: str):
    from harness.cli.training import training_parsers

    if COMMANDS[command].function:
        return function_parser(command, COMMANDS[command].load())
    return training_parsers(command)[0]


def parse(command: str) -> None:
    """Refuse a command that could not start; raises or exits for what its parser refuses."""
    words = shlex.split(re.split(r"\s(?:>|&&)\s", command)[0])
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    if words[0] == "make":
        targets = (ROOT / "Makefile").read_text()
        assert all(f"\n{target}:" in targets for target in words[1:]), command
    elif words[0] in ("python", "bash"):
        script = ROOT / words[1]
        options = [word for word in words[2:] if word.startswith("--")]
        assert script.is_file(), command
        assert all(f'"{option}"' in script.read_text() for option in options), command
    elif words[0] == "harness" and words[1] in COMMANDS:
        named = COMMANDS[words[1]]
        if named.function:
            words = ["harness", words[1], *spell_out(named.load(), words[2:], named.positional)]
            parser(words[1]).parse_args(words[2:])
        else:
            parser(words[1]).parse_args(words[1:])
    else:
        assert words[0] != "harness" or words[1] == "--print_completion", command


def test_the_pages_have_commands_and_the_reader_sees_them():
    assert len(ALL) > 15
    text = "<!-- parsed: long -->\n\n    x=configs\n    harness fit --config $x/a.yaml \\\n      --y 1  # why\n\nand\n"
    [match] = BLOCK.finditer(text)
    assert MARK.match(match["mark"])[1] == "parsed"
    assert commands_of(match["indented"]) == ("harness fit --config configs/a.yaml --y 1",)


@pytest.mark.parametrize("block", [b for b in ALL if b.mark == "parsed"], ids=lambda b: f"{b.page}:{b.line}")
def test_commands_that_take_long_are_read_by_their_parsers(block, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for command in block.commands:
        try:
            parse(command)
        except SystemExit:
            pytest.fail(f"{block.page}:{block.line}: {command}\n{capsys.readouterr().err}")


@pytest.mark.parametrize(("where", "command"), [found for page in PAGES for found in inline_commands(page)])
def test_what_commands_within_a_line_name_is_there(where, command):
    program, name, *words = shlex.split(command)
    if program != "harness":
        if name == "-m":
            assert not words or importlib.util.find_spec(words[0]), f"{where}: {command}"
        else:
            parse(command)
    elif name.startswith("--"):
        assert name in ("--help", "--version"), f"{where}: {command}"
    else:
        assert name in COMMANDS, f"{where}: {command}"
        known = parser(name).format_help() if words else ""
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert option in known, f"{where}: {command} has no {option}"


@pytest.mark.parametrize("block", [b for b in ALL if not b.mark], ids=lambda b: f"{b.page}:{b.line}")
def test_the_other_commands_run(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in block.commands:
        words = shlex.split(command)
        assert words[0] == "harness", f"{block.page}:{block.line}: only harness is run here; mark the block: {command}"
        assert main(words[1:]) == 0, capsys.readouterr().err
