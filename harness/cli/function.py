"""Commands that are a typed function: its parameters are the options, its docstring is the help."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import typing
from collections.abc import Callable, Collection, Sequence
from typing import Any

from jsonargparse import ActionConfigFile

from harness.cli.names import KINDS
from harness.cli.parser import SentenceErrors, check_config_files
from harness.errors import InputError
from harness.locks import only_writer


def function_parser(name: str, function: Callable[..., Any]) -> SentenceErrors:
    """The parser of `harness NAME`."""
    description = (function.__doc__ or "").strip().partition("\n\n")[0]
    parser = SentenceErrors(prog=f"harness {name}", description=description)
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file with any of the options.")
    parser.add_function_arguments(function, as_group=False, sub_configs=True)
    return parser


def run_function(
    name: str, function: Callable[..., Any], options: Sequence[str], positional: Sequence[str] = (), writes: str = ""
) -> int | None:
    """Parse the options and call the function with them; what it returns is the exit status.

    Args:
        positional: names of the options that bare words at the front stand for (`Command.positional`).
        writes: name of the option whose file is locked meanwhile (`Command.writes`); "" locks nothing.
    """
    options = spell_out(function, options, positional)
    check_line_breaks(function, options)
    check_config_files(options)
    parser = function_parser(name, function)
    values = parser.instantiate_classes(parser.parse_args(options))
    values.pop("config", None)
    with only_writer(values[writes]) if writes else contextlib.nullcontext():
        return function(**values)


def spell_out(function: Callable[..., Any], options: Sequence[str], positional: Sequence[str] = ()) -> list[str]:
    """Write bare words at the front as options, and give switches their value.

    `report A B` is `report --runs ["A", "B"]`, `grade FILE` is `grade --file FILE`, `--explain` is `--explain true`.
    Where the last of several such options is a list, it takes the words that the others leave.
    """
    hints = typing.get_type_hints(function)
    words = list(itertools.takewhile(lambda option: not option.startswith("-"), options)) if positional else []
    rest = list(options[len(words) :])
    listed = bool(positional) and _is_list(hints[positional[-1]])
    single = positional[:-1] if listed else positional
    named = [part for name, word in zip(single, words, strict=False) for part in (f"--{name}", word)]
    if (left := words[len(single) :]) and listed:
        left = [f"--{positional[-1]}", json.dumps(left)]
    named += left
    switches = {f"--{name}" for name, hint in hints.items() if hint is bool}
    for option, following in zip(rest, [*rest[1:], "--"], strict=False):
        named += [option, "true"] if option in switches and following.startswith("--") else [option]
    return named


def _is_list(hint: Any) -> bool:
    """Whether an option is a list, or a list that may be left out."""
    return any(typing.get_origin(part) is list for part in (hint, *typing.get_args(hint)))


def check_line_breaks(function: Callable[..., Any], options: Sequence[str]) -> None:
    """Refuse lists with escapes inside an option of a class, such as `--search.steps ["\\n"]`: the parser hands the
    break on as two characters."""
    bases = {kind.base for kind in KINDS.values()}
    classes = {
        f"--{name}"
        for name, hint in typing.get_type_hints(function).items()
        if any(getattr(part, "__name__", "") in bases for part in (hint, *typing.get_args(hint)))
    }
    for option, following in itertools.zip_longest(options, options[1:], fillvalue=""):
        name, equals, value = option.partition("=")
        _check_line_breaks(name, value if equals else following, classes)


def _check_line_breaks(option: str, value: str, classes: Collection[str]) -> None:
    parts = option.split(".")
    inside = any(".".join(parts[:i]) in classes for i in range(1, len(parts)))
    if inside and value.startswith("[") and re.search(r"\\[nrt]", value):
        raise InputError(
            f"{option} {value}: escapes inside a list do not survive here; write this option in a file and give that "
            f"with --config, or the whole class, such as --search.steps '{{class_path: PlainSteps, init_args: "
            f"{{step_stop: {value}}}}}'."
        )
