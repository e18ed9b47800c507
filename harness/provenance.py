"""What made a row: an account of all that decides what was drawn and how it was judged, and the account's hash.

Every file that a command may continue holds in each row the hash of its `Provenance`; the account itself stands beside
the file. A row whose hash is another one is never taken for what is asked now: what was drawn otherwise is refused with
the name of what differs, what was only judged otherwise is judged again.
"""

from __future__ import annotations

import enum
import hashlib
import inspect
import json
import logging
import math
import os
import sys
import types
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from harness.errors import InputError
from harness.protocols import Identified
from harness.store import file_hash, stable_hash, write_json
from harness.types import Problem

log = logging.getLogger(__name__)

UNKNOWN = "unknown"
"""Key of an account's part that cannot be told; its value says why."""
MAX_FILES = 10_000
"""Files of a folder that are looked at to tell whether it changed."""
SHOWN = 80
"""Characters of a value in a message."""
EVERY_FIELD = tuple(f.name for f in fields(Problem))


@dataclass(frozen=True)
class Provenance:
    """What decides the rows of a file, beside their problems."""

    drawn: Mapping[str, Any]
    """Decides what is sampled: weights, engine, tokenizer, prompt template, search, and what the search asks."""
    judged: Mapping[str, Any] = field(default_factory=dict)
    """Decides verdicts and rewards of what was sampled."""
    asked: tuple[str, ...] = EVERY_FIELD
    """Fields of a problem that decide what is sampled for it; the others may decide how that is judged."""

    @cached_property
    def key(self) -> str:
        """Hash as it stands in the rows: 16 hex digits of `drawn` and `asked`, a hyphen, 16 of `judged`."""
        return f"{_digest([self.drawn, list(self.asked)])}-{_digest(self.judged)}"

    def account(self) -> dict[str, Any]:
        """The whole as JSON."""
        return {"drawn": dict(self.drawn), "judged": dict(self.judged), "asked": list(self.asked)}


def _digest(account: Any) -> str:
    return hashlib.sha256(json.dumps(account, sort_keys=True).encode()).hexdigest()[:16]


def identity(thing: Any) -> Any:
    """All that decides what an object does, as JSON: its class and the arguments it was made with, and so on inside.

    An object that has a method `identity` says it itself (`harness.protocols.Identified`). Otherwise its constructor's
    arguments are looked up among its attributes, under their own names or with a leading underscore. Of a class outside
    this package the source file counts too, and where an argument names a file or folder, what lies there. What cannot
    be told is marked (`unknown_parts`).
    """
    return _identity(thing, holder="harness")


def _identity(thing: Any, holder: str) -> Any:
    if thing is None or isinstance(thing, bool | int | str):
        return thing.value if isinstance(thing, enum.Enum) else thing
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else repr(thing)
    if isinstance(thing, PurePath):
        return str(thing)
    if isinstance(thing, bytes):
        return hashlib.sha256(thing).hexdigest()
    if isinstance(thing, Mapping):
        return {str(key): _identity(value, holder) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_identity(item, holder) for item in thing]
    if isinstance(thing, Set):
        return sorted((_identity(item, holder) for item in thing), key=json.dumps)
    if isinstance(thing, type):
        return _named(thing)
    if isinstance(thing, types.FunctionType):
        if thing.__name__ == "<lambda>" or thing.__closure__:
            return {UNKNOWN: f"a function made in {thing.__module__}"}
        return {"function": f"{thing.__module__}.{thing.__qualname__}", **_source([thing.__module__])}
    return _object(thing, holder)


def _object(thing: Any, holder: str) -> dict[str, Any]:
    kind = type(thing)
    package = kind.__module__.partition(".")[0]
    if isinstance(thing, Identified):
        return {**_named(kind), **{name: _identity(value, package) for name, value in thing.identity().items()}}
    if package not in ("harness", holder) and holder != "harness":
        return {UNKNOWN: f"an object of {kind.__module__}.{kind.__qualname__}"}
    if package in sys.stdlib_module_names or hasattr(thing, "state_dict"):
        return {UNKNOWN: f"an object of {kind.__module__}.{kind.__qualname__}"}
    account = _named(kind)
    for name in _arguments(kind):
        if name.startswith("*"):
            value: Any = {UNKNOWN: f"arguments of {kind.__qualname__} that have no names"}
        elif hasattr(thing, name) or hasattr(thing, f"_{name}"):
            found = getattr(thing, name) if hasattr(thing, name) else getattr(thing, f"_{name}")
            value = _identity(found, package)
            if package != "harness" and isinstance(found, str | Path):
                value = _content(Path(found)) or value
        else:
            value = {UNKNOWN: f"an argument of {kind.__qualname__} that is kept in no attribute of its name"}
        account[name.lstrip("*")] = value
    return account


def _named(kind: type) -> dict[str, Any]:
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        **_source(list(dict.fromkeys(each.__module__ for each in kind.__mro__))),
    }


def _source(modules: Sequence[str]) -> dict[str, Any]:
    """Hash of the source files of modules that are neither this package's nor Python's, or nothing."""
    hashes = []
    for name in modules:
        if name.partition(".")[0] == "harness" or (
            name != "__main__" and name.partition(".")[0] in sys.stdlib_module_names
        ):
            continue
        try:
            hashes.append(file_hash(inspect.getsourcefile(sys.modules[name]) or ""))
        except (KeyError, OSError, TypeError):
            return {"module source": {UNKNOWN: f"the source of {name} cannot be read"}}
    return {"module source": _digest(hashes)} if hashes else {}


def _arguments(kind: type) -> list[str]:
    """Names of all arguments that a class is made with; what it takes by `**` is what its base class takes."""
    if is_dataclass(kind):
        return [f.name for f in fields(kind) if f.init]
    names: list[str] = []
    for each in kind.__mro__:
        made = each.__dict__.get("__init__")
        if made is None:
            continue
        if each is object:
            break
        parameters = list(inspect.signature(made).parameters.values())[1:]
        passed_on = inspect.Parameter.VAR_KEYWORD
        names += [f"*{p.name}" if p.kind is p.VAR_POSITIONAL else p.name for p in parameters if p.kind is not passed_on]
        if not any(p.kind is passed_on for p in parameters):
            break
    return list(dict.fromkeys(names))


def _content(path: Path) -> dict[str, Any] | None:
    """What lies at a path that an argument may name: of a file its hash, of a folder names, sizes and times."""
    if os.sep not in str(path) or path == Path(path.anchor) or not path.exists():
        return None
    if path.is_file():
        return {"file": file_hash(path)}
    found: list[list[Any]] = []
    for folder, _, names in sorted(os.walk(path)):
        for name in sorted(names):
            file = Path(folder, name)
            status = file.stat()
            found.append([str(file.relative_to(path)), status.st_size, status.st_mtime_ns])
            if len(found) > MAX_FILES:
                return {UNKNOWN: f"what lies in {path}"}
    return {"folder": _digest(found)}


def unknown_parts(account: Any) -> dict[str, str]:
    """Dotted names of the parts of an account that cannot be told, and why."""
    found = {}
    for name, value in _leaves(account):
        parent, _, last = name.rpartition(".")
        if last == UNKNOWN:
            found[parent] = value
    return found


def tell_unknown(place: Path, unknown: Mapping[str, str], consequence: str) -> None:
    """Say which parts of what made a file's rows cannot be compared, and what follows."""
    for name, why in unknown.items():
        log.warning(
            "%s: whether %s is the same as before cannot be told (%s), so %s; let its class have a method `identity`.",
            place,
            name,
            why,
            consequence,
        )


def differences(then: Any, now: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted names of what differs between two accounts, with both values; what one of them lacks is None."""
    before, after = dict(_leaves(then)), dict(_leaves(now))
    return {
        name: (before.get(name), after.get(name))
        for name in dict.fromkeys([*after, *before])
        if before.get(name) != after.get(name)
    }


def _leaves(account: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in an account that is no mapping."""
    items: Iterator[tuple[Any, Any]]
    if isinstance(account, Mapping):
        items = iter(account.items())
    elif isinstance(account, list) and any(isinstance(item, Mapping) for item in account):
        items = enumerate(account)
    else:
        yield name, account
        return
    for key, value in items:
        yield from _leaves(value, f"{name}.{key}" if name else str(key))


def describe_differences(found: Mapping[str, tuple[Any, Any]]) -> str:
    """What differs, in words: all names, and both values of the first."""
    [first, *others] = found
    then, now = found[first]
    more = f"; {', '.join(others)} {'differs' if len(others) == 1 else 'differ'} too" if others else ""
    return f"{first} ({_shown(then)}, now {_shown(now)}{more})"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def contents(rows: Sequence[Any]) -> str:
    """Hash of what dataclass rows hold, in their order."""
    return f"{stable_hash(*rows):016x}"


def check_asked(path: Path, then: Mapping[str, Any] | None, now: Mapping[str, Any], remedy: str) -> None:
    """Raise `InputError` if a finished file of a run answers another question than is asked now, with what differs."""
    if then is None:
        log.warning("%s: of a version that did not write down what was asked; it is taken as it is.", path)
    elif found := differences(then, now):
        raise InputError(f"{path}: made with another {describe_differences(found)}; {remedy}")
    else:
        tell_unknown(path, unknown_parts(now), "it is taken as it is")


class ProvenanceFile:
    """The accounts of what made a file's rows, by their hashes, as JSON in `NAME.provenance` beside it.

    Without it rows are still told apart by their hashes; only what differs is then not known.

    Args:
        path: the JSONL file of the rows.
        now: what would make its rows now.

    Raises:
        InputError: the accounts cannot be read.
    """

    def __init__(self, path: Path, now: Provenance) -> None:
        self.path, self.now = path, now
        self.file = path.with_name(f"{path.name}.provenance")
        self._known: dict[str, dict[str, Any]] = {}
        if self.file.exists():
            try:
                stored = json.loads(self.file.read_text(encoding="utf-8"))
                accounts = {
                    key: Provenance(**{**value, "asked": tuple(value["asked"])}) for key, value in stored.items()
                }
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise InputError(
                    f"{self.file}: cannot be read ({error}); delete it, it only says in words what made the rows of "
                    f"{path.name}."
                ) from None
            self._known = {key: each.account() for key, each in accounts.items() if each.key == key}
        self._unknown_drawn, self._unknown_judged = unknown_parts(now.drawn), unknown_parts(now.judged)
        self._told = False

    def save(self, alone: bool = False) -> None:
        """Write down what makes the rows now; `alone` forgets what made them before."""
        known = {self.now.key: self.now.account()} if alone else {**self._known, self.now.key: self.now.account()}
        if known != self._known or not self.file.exists():
            self._known = known
            write_json(self.file, known)

    def check(self, line: int, key: str, path: Path | None = None) -> bool:
        """Whether a row's verdicts and rewards can be kept, by the hash that it holds.

        What cannot be told is said once: draws are then taken as they are, verdicts are not.

        Args:
            path: where the line is, if not in the file itself.

        Raises:
            InputError: the row was not drawn as it would be now; names file, line and what differs.
        """
        path = path or self.path
        if not key:
            raise InputError(
                f"{path}:{line}: made by a version that did not write down what made its rows, so they cannot be "
                "taken for what is asked now; write to another file (this one stays as it is), or delete it."
            )
        drawn, _, judged = key.partition("-")
        if drawn != self.now.key.partition("-")[0]:
            raise InputError(
                f"{path}:{line}: made with another {self._difference(key)}; "
                "write to another file, or delete this one to make its rows again."
            )
        if not self._told:
            tell_unknown(self.path, self._unknown_drawn, "what was drawn with it is taken as it is")
            tell_unknown(self.path, self._unknown_judged, "all rows are judged again")
            self._told = True
        return judged == self.now.key.partition("-")[2] and not self._unknown_judged

    def _difference(self, key: str) -> str:
        if key not in self._known:
            return f"provenance ({key}, now {self.now.key}; {self.file.name}, which says what it was, lacks it)"
        return describe_differences(differences(self._flat(self._known[key]), self._flat(self.now.account())))

    @staticmethod
    def _flat(account: Mapping[str, Any]) -> dict[str, Any]:
        return {**account["judged"], **account["drawn"], "asked": account["asked"]}
