"""Frozen dataclasses to and from JSONL: atomic writes, appends that survive a kill, errors that name file and line."""

from __future__ import annotations

import base64
import contextlib
import difflib
import gzip
import hashlib
import json
import os
import re
import shutil
import struct
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from harness.errors import InputError, first_line

Row = TypeVar("Row")
LEFTOVER = re.compile(r"\.(\d+)\.(?:tmp|new|old)$")
GZIP_LEVEL = 4
"""8 % more bytes than at level 9 for responses with their token ids, in a ninth of the time."""
PLAIN = frozenset({int, float, str, bool, type(None)})


def to_json(row: Any) -> str:
    """One line of JSON; dataclass fields at their default are left out, which `from_dict` restores."""
    return json.dumps(to_dict(row), ensure_ascii=False)


def to_dict(row: Any) -> Any:
    """Dataclasses become dicts without the fields that hold their default."""
    if type(row) in PLAIN:
        return row
    if is_dataclass(row) and not isinstance(row, type):
        values = ((name, default, packed, getattr(row, name)) for name, default, packed in _defaults(type(row)))
        return {
            name: pack_numbers(value, packed) if packed else to_dict(value)
            for name, default, packed, value in values
            if value != default
        }
    if isinstance(row, tuple | list):
        return [item if type(item) in PLAIN else to_dict(item) for item in row]  # token ids are long
    if isinstance(row, Mapping):
        return {str(key): to_dict(value) for key, value in row.items()}
    return row


@cache
def _defaults(kind: type) -> tuple[tuple[str, Any, str], ...]:
    """The fields of a dataclass, their defaults, and the `struct` code by which their values are packed, or ""."""
    return tuple((f.name, _default(f), f.metadata.get("packed", "")) for f in fields(kind))


def pack_numbers(values: Iterable[float], code: str) -> str:
    """Numbers as base64 text, each in the little-endian format of a code of `struct`."""
    values = tuple(values)
    return base64.b64encode(struct.pack(f"<{len(values)}{code}", *values)).decode()


def unpack_numbers(text: str, code: str) -> tuple[float, ...]:
    """The numbers that `pack_numbers` made the text of; raises `ValueError` for any other text."""
    try:
        return tuple(value for (value,) in struct.iter_unpack(f"<{code}", base64.b64decode(text, validate=True)))
    except struct.error as error:
        raise ValueError(str(error)) from None


def _default(f: Any) -> Any:
    if f.default is not MISSING:
        return f.default
    return f.default_factory() if f.default_factory is not MISSING else MISSING


def from_dict(kind: type[Row], data: Mapping[str, Any]) -> Row:
    """Build the dataclass `kind` from a JSON object; unknown keys are ignored.

    Raises:
        KeyError: a field without a default is missing.
    """
    values = {}
    for name, required, convert in _plan(typing.cast(type, kind)):
        if name in data:
            values[name] = convert(data[name]) if convert else data[name]
        elif required:
            raise KeyError(name)
    return kind(**values)


def from_mapping(kind: type[Row], data: Mapping[str, Any], place: str, also: Iterable[str] = ()) -> Row:
    """Build the dataclass `kind` from what a person wrote: as `from_dict`, but nothing unknown is overlooked.

    Args:
        place: names the source in errors, such as a file.
        also: further keys that are allowed, and left to the caller.

    Raises:
        InputError: a key is unknown, or a field without a default is missing.
    """
    known = [*(f.name for f in fields(kind)), *also]  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}."
            raise InputError(f"{place}: unknown key '{key}'; {hint}")
    try:
        return from_dict(kind, data)
    except KeyError as error:
        raise InputError(f"{place}: {error.args[0]} is missing; known keys: {', '.join(known)}.") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: the file does not exist, cannot be read, is not YAML or holds something else.
    """
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the path of an existing YAML file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}).") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)}).") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of keys to values, found {type(content).__name__}.")
    return content


@cache
def _plan(kind: type) -> tuple[tuple[str, bool, Callable[[Any], Any] | None], ...]:
    """Of each field of a dataclass its name, whether a row must give it, and its `_converter`."""
    hints = typing.get_type_hints(kind)
    return tuple(
        (f.name, _default(f) is MISSING, _unpacker(_converter(hints[f.name]), f.metadata.get("packed", "")))
        for f in fields(kind)
    )


def _unpacker(convert: Callable[[Any], Any] | None, code: str) -> Callable[[Any], Any] | None:
    """A converter that reads packed numbers too, where a field has them."""
    if not code:
        return convert
    return lambda value: unpack_numbers(value, code) if isinstance(value, str) else (convert or tuple)(value)


def _converter(hint: Any) -> Callable[[Any], Any] | None:
    """What makes a JSON value one of the type; None where it is one already, as the thousands of token ids are."""
    if is_dataclass(hint):
        kind = typing.cast(type, hint)
        return lambda value: from_dict(kind, value) if isinstance(value, Mapping) else value
    if typing.get_origin(hint) is tuple:
        inner = _converter(typing.get_args(hint)[0])
        if inner is None:
            return lambda value: tuple(value) if isinstance(value, list) else value
        return lambda value: tuple(map(inner, value)) if isinstance(value, list) else value
    if hint is float:
        return lambda value: float(value) if isinstance(value, int) else value
    return None


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for each non-empty line of a .jsonl or .jsonl.gz file.

    Raises:
        InputError: the file does not exist or cannot be read, or a line is not a JSON object.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of an existing .jsonl or .jsonl.gz file.")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(
                        f"{path}:{number}: not valid JSON ({error.msg} at column {error.colno})."
                    ) from None
                if not isinstance(row, dict):
                    raise InputError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}.")
                yield number, row
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from None


def read_rows(path: str | Path, kind: type[Row]) -> list[Row]:
    """Read a whole file of dataclass rows.

    Raises:
        InputError: as `read_jsonl`, or a row lacks a required field.
    """
    rows = []
    for number, data in read_jsonl(path):
        try:
            rows.append(from_dict(kind, data))
        except KeyError as error:
            raise InputError(f"{path}:{number}: missing column {error}; found {sorted(data)}.") from None
        except ValueError as error:
            raise InputError(f"{path}:{number}: damaged ({error}); restore the file, or make it again.") from None
    return rows


def write_rows(path: str | Path, rows: Iterable[Any]) -> None:
    """Write all rows at once, atomically; a .gz suffix compresses, the same rows always give the same bytes."""
    text = "".join(to_json(row) + "\n" for row in rows).encode()
    if Path(path).suffix == ".gz":
        text = gzip.compress(text, GZIP_LEVEL, mtime=0)
    write_bytes(path, text)


def write_json(path: str | Path, value: Any) -> None:
    """Write one indented JSON document atomically."""
    write_bytes(path, (json.dumps(to_dict(value), indent=2, ensure_ascii=False) + "\n").encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Replace a file atomically: a reader sees the old content or the new, never a part.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place, on disk and whole, when the block ends well, and else is removed.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); nothing was replaced.") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path) -> None:
    """Remove what processes that were killed left half-written in a folder: `.NAME.PID.tmp`, `.new` and `.old`."""
    for path in Path(folder).glob(".*"):
        found = LEFTOVER.search(path.name)
        if found and not _runs(int(found[1])):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def numbered(path: Path) -> Path:
    """The first of name-2.suffix, name-3.suffix, ... that does not exist."""
    number = 2
    while (candidate := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        number += 1
    return candidate


class AppendLog:
    """A JSONL file that grows line by line and survives a kill: on opening, a torn last line is cut off.

    Use as a context manager. Each `extend` is flushed to the operating system before it returns.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._cut_torn_line()
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed in __exit__
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}).") from None

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        with open(self.path, "rb+") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)

    def extend(self, rows: Iterable[Any]) -> None:
        """Append rows; raises `InputError` when the disk is full, leaving all earlier lines intact."""
        try:
            self._file.write("".join(to_json(row) + "\n" for row in rows))
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); earlier lines are intact.") from None

    def __enter__(self) -> AppendLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stable_hash(*parts: Any, bits: int = 63) -> int:
    """A non-negative integer below 2**bits that depends only on the parts' JSON form (not on the process)."""
    text = json.dumps(to_dict(parts), sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - bits)
