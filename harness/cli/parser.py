"""Parsers that answer a mistake with one sentence: the key, the value, and the nearest key that is known."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
from jsonargparse import ArgumentParser

from harness.cli.names import files_from_here, understand_names
from harness.errors import InputError
from harness.recipes import where_to_get
from harness.store import read_yaml

UNKNOWN_KEY = re.compile(r"[Oo]ption '([^']+)'(?: is not accepted|$)|unrecognized arguments: --([^\s=]+)", re.MULTILINE)
CLASS_PROBLEM = re.compile(r"^( *)(?:- )?Problem with given class_path '([^']+)':\n", re.MULTILINE)
understand_names()

EXPECTED = re.compile(r"Expected an? (.+?)(?:\. Got value: .*)?$", re.MULTILINE)


def explain_fields(wanted: bool) -> None:
    """Whether help shows the text below a dataclass field; reading it takes seconds, and other uses show none of it."""
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=wanted)


class SentenceErrors(ArgumentParser):
    """A jsonargparse parser whose errors are one sentence."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An abbreviation accepted today is an ambiguous or misspelt key tomorrow.
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        prog = parser.prog.replace(" [options]", "")
        print(f"error: {explain(message, known_keys(parser))}", file=sys.stderr)
        print(f"{prog} --help lists the options", file=sys.stderr)
        self.exit(2)

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        with files_from_here():
            return super().parse_args(*args, **kwargs)

    def instantiate_classes(self, *args: Any, **kwargs: Any) -> Any:
        """As the base class, but what a constructor refuses is its own sentence, not a report of all that was tried."""
        try:
            return super().instantiate_classes(*args, **kwargs)
        except ValueError as error:
            raise refusal(error) from None


def refusal(error: BaseException) -> BaseException:
    """The `InputError` that led to an error, else the error itself."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error


def known_keys(parser: ArgumentParser) -> list[str]:
    """Dotted names of all options, those of subcommands without the subcommand."""
    keys = []
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for subparser in action.choices.values():
                keys += known_keys(subparser)
        elif action.dest not in ("help", jsonargparse.SUPPRESS) and not action.dest.startswith("_"):
            keys.append(action.dest)
    return keys


def explain(message: str, keys: Sequence[str]) -> str:
    """jsonargparse's message as one sentence; `keys` are those that would have been accepted."""
    if found := deepest_class_problem(message):
        class_path, detail = found
        where = re.search(r'Parser key "([^"]+)"', message)
        place = f"{where[1]}: " if where else ""
        return f"{place}{class_path}: {explain(detail, init_keys(class_path))}"
    if absent := re.search(r"module '([^']+)' has no attribute '([^']+)'", message):
        return f"{absent[1]} has no '{absent[2]}'; {nearest(absent[2], vars(sys.modules.get(absent[1], sys)))}"
    if found_key := UNKNOWN_KEY.search(message):
        key = found_key[1] or found_key[2]
        return f"unknown key '{key}'; {nearest(key, keys)}"
    if required := re.search(r"arguments are required: (.+)", message):
        names = ", ".join(key.partition(".")[2] or key for key in required[1].split(", "))
        return f"missing {names}; give it as an option or in a file with --config."
    if missing := re.search(r"File does not exist: '?([^'\n]+)'?", message):
        return f"{missing[1]}: no such file; give the path of an existing file."
    if bad_value := re.search(r"(?:Given|Got) value: (.*)\Z", message, re.DOTALL):
        return f"{wrong_value(message, bad_value[1])}."
    return " ".join(message.split())


def wrong_value(message: str, value: str) -> str:
    where = re.search(r'Parser key "([^"]+)"', message)
    kinds = [re.sub(r"<class '(?:builtins\.)?([^']+)'>", r"\1", kind) for kind in EXPECTED.findall(message)]
    expected = " or ".join(dict.fromkeys(kind.replace("NoneType", "null") for kind in kinds))
    shown = " ".join(value.split())
    text = f"{where[1] if where else 'the option'}: {shown[:200]!r} is not a valid value"
    return f"{text}, expected {expected}" if expected else text


def deepest_class_problem(message: str) -> tuple[str, str] | None:
    """The innermost class that could not be configured, and what was said about it."""
    problems = list(CLASS_PROBLEM.finditer(message))
    if not problems:
        return None
    problem = max(problems, key=lambda match: len(match[1]))
    indent = len(problem[1])
    detail = []
    for line in message[problem.end() :].splitlines():
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        detail.append(line)
    return problem[2], "\n".join(detail)


def init_keys(class_path: str) -> list[str]:
    """Names that a class's `init_args` may have."""
    parser = ArgumentParser(exit_on_error=False)
    try:
        module, _, name = class_path.rpartition(".")
        parser.add_class_arguments(getattr(__import__(module, fromlist=[name]), name), None, fail_untyped=False)
    except (ImportError, AttributeError, ValueError):
        return []
    return known_keys(parser)


def nearest(key: str, keys: Iterable[str]) -> str:
    """Which known key was probably meant."""
    keys = [known for known in keys if known not in ("config", "print_config")]
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    if not close:
        last = key.rpartition(".")[2]
        close = [known for known in keys if known.rpartition(".")[2] == last][:1]
    if close:
        return f"did you mean '{close[0]}'?"
    roots = sorted({known.partition(".")[0] for known in keys if not known.startswith("_")})
    return f"known are {', '.join(roots[:20])}." if roots else "it takes no options."


def check_config_files(arguments: Sequence[str]) -> None:
    """Read the files given with --config; raises `InputError` with file and line, where the parser names neither."""
    for option, value in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, inline = option.partition("=")
        if name not in ("-c", "--config"):
            continue
        path = Path(inline if equals else value)
        if not path.exists() and (hint := where_to_get(path)):
            raise InputError(hint)
        read_yaml(path)
