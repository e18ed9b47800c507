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
import types
import typing
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from harness.errors import InputError, first_line

Row = TypeVar("Row")
LEFTOVER = re.compile(r"\.(\d+)\.(?:tmp|new|old)$")
GZIP_LEVEL = 4
"""8 % more bytes than at level 9 for responses with their token ids, in a ninth of the time."""
SEAL = b', "crc32": "'
"""Before the CRC-32 of a line's other bytes, in hexadecimal, at the end of a line that is appended to a log."""
SEAL_LENGTH = len(SEAL) + len(b'01234567"}')
BLOCK = 1 << 16
"""Bytes in which the end of a log is looked through."""
NUM_SHARED = 1 << 18
"""More than the entries of a tokenizer."""
HASH = "sha256"
"""Key of a JSON document that holds the hash of the rest."""
PLAIN = frozenset({int, float, str, bool, type(None)})


def to_json(row: Any) -> str:
    """One line of JSON; dataclass fields at their default are left out, which `from_dict` restores."""
    return json.dumps(to_dict(row), ensure_ascii=False)


def sealed_line(row: Any) -> bytes:
    """A row as a line of a log: its last field tells whether the others are what was written."""
    text = to_json(row).encode()
    return text + b"\n" if text == b"{}" else text[:-1] + SEAL + b'%08x"}\n' % zlib.crc32(text)


def parse_line(line: bytes, place: str) -> dict[str, Any]:
    """The JSON object in a line, without its checksum, which it need not have.

    Args:
        place: file and line, for errors.

    Raises:
        InputError: the line is not UTF-8, not a JSON object, or not what its checksum was made of.
    """
    line = line.rstrip()
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not UTF-8 text ({error.reason} at byte {error.start + 1}).") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not valid JSON ({error.msg} at column {error.colno}).") from None
    if not isinstance(row, dict):
        raise InputError(f"{place}: expected a JSON object, found {type(row).__name__}.")
    if line[-SEAL_LENGTH:].startswith(SEAL):
        if b"%08x" % zlib.crc32(line[:-SEAL_LENGTH] + b"}") != line[-10:-2]:
            raise InputError(
                f"{place}: damaged, its checksum is another; restore the file, or delete this line and those below it "
                "to have them made again."
            )
        del row["crc32"]
    return row


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
        TypeError: a field's value is of another type.
    """
    values = {}
    for name, required, convert in _plan(typing.cast(type, kind)):
        if name in data:
            try:
                values[name] = convert(data[name]) if convert else data[name]
            except TypeError as error:
                raise TypeError(f"'{name}': {error}") from None
        elif required:
            raise KeyError(name)
    return kind(**values)


def to_row(kind: type[Row], data: Mapping[str, Any], place: str) -> Row:
    """`from_dict` for what was read from a file; raises `InputError` that begins with the place, its file and line."""
    try:
        return from_dict(kind, data)
    except KeyError as error:
        raise InputError(f"{place}: missing column {error}; found {sorted(data)}.") from None
    except TypeError as error:
        raise InputError(f"{place}: {error}.") from None
    except ValueError as error:
        raise InputError(f"{place}: damaged ({error}); restore the file, or make it again.") from None


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
    except TypeError as error:
        raise InputError(f"{place}: {error}.") from None


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
        raise InputError(
            f"{path}{line}: not valid YAML ({getattr(error, 'problem', None) or first_line(error)})."
        ) from None
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
    """What makes a JSON value one of the type, or raises `TypeError`; None for types of which nothing is known."""
    arguments = typing.get_args(hint)
    if is_dataclass(hint):
        return _object_of(typing.cast(type, hint))
    if typing.get_origin(hint) is tuple:
        if arguments[1:] == (...,):
            return _tuple_of(arguments[0])
        parts = [_converter(argument) or (lambda value: value) for argument in arguments]
        return lambda value: tuple(part(item) for part, item in zip(parts, _listed(value), strict=False))
    if typing.get_origin(hint) is typing.Literal:
        return lambda value: value if value in arguments else _refuse(value, " or ".join(map(repr, arguments)))
    several = typing.get_origin(hint) in (typing.Union, types.UnionType)
    accepted = frozenset(arguments if several else [hint])
    if not accepted <= PLAIN:
        return None
    if hint is float:
        return lambda value: float(value) if type(value) in (float, int) else _refuse(value, "float")
    accepted |= {int} if float in accepted else set()
    names = " or ".join(sorted(kind.__name__ for kind in accepted))
    return lambda value: value if type(value) in accepted else _refuse(value, names)


def _object_of(kind: type) -> Callable[[Any], Any]:
    return lambda value: from_dict(kind, value) if isinstance(value, Mapping) else _refuse(value, "an object")


def _tuple_of(hint: Any) -> Callable[[Any], tuple[Any, ...]]:
    convert = _converter(hint)
    if convert is None:
        return lambda value: tuple(_listed(value))
    if hint in (int, str):  # the thousands of token ids are what they should be
        whole: Callable[[Any], tuple[Any, ...]] = shared_ints if hint is int else tuple
        return lambda value: whole(value) if set(map(type, _listed(value))) <= {hint} else tuple(map(convert, value))
    return lambda value: tuple(map(convert, _listed(value)))


def shared_ints(values: Sequence[int]) -> tuple[int, ...]:
    """The numbers as a tuple that shares its token ids with all others: 8 bytes each, not 36."""
    if len(values) < 2 or min(values) < 0:
        return tuple(values)
    try:
        return itemgetter(*values)(_token_ids())
    except IndexError:
        return tuple(values)


@cache
def _token_ids() -> tuple[int, ...]:
    return tuple(range(NUM_SHARED))


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else _refuse(value, "a list")


def _refuse(value: Any, expected: str) -> Any:
    raise TypeError(f"expected {expected}, found {value!r:.60}")


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for each non-empty line of a .jsonl or .jsonl.gz file.

    Raises:
        InputError: the file does not exist or cannot be read, or a line is not a JSON object.
    """
    for number, line in read_lines(path):
        yield number, parse_line(line, f"{path}:{number}")


def read_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """As `read_jsonl`, the lines as they stand in the file."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of an existing .jsonl or .jsonl.gz file.")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from None


def read_rows(path: str | Path, kind: type[Row]) -> list[Row]:
    """Read a whole file of dataclass rows.

    Raises:
        InputError: as `read_jsonl`, or a row lacks a required field.
    """
    return list(stream_rows(path, kind))


def stream_rows(path: str | Path, kind: type[Row]) -> Iterator[Row]:
    """As `read_rows`, one row at a time."""
    for number, data in read_jsonl(path):
        yield to_row(kind, data, f"{path}:{number}")


def write_rows(path: str | Path, rows: Iterable[Any], sealed: bool = False) -> None:
    """Write all rows at once, atomically; a .gz suffix compresses, the same rows always give the same bytes.

    Args:
        sealed: give every row its checksum, as `AppendLog` does.
    """
    write_lines(path, map(sealed_line, rows) if sealed else ((to_json(row) + "\n").encode() for row in rows))


def write_lines(path: str | Path, lines: Iterable[bytes]) -> None:
    """As `write_rows` for lines that end in line breaks; memory does not hold them."""
    pack = zlib.compressobj(GZIP_LEVEL, wbits=31) if Path(path).suffix == ".gz" else None
    with replacing(path) as file:
        for line in lines:
            file.write(pack.compress(line) if pack else line)
        file.write(pack.flush() if pack else b"")


def write_json(path: str | Path, value: Any) -> None:
    """Write one indented JSON document atomically."""
    write_bytes(path, (json.dumps(to_dict(value), indent=2, ensure_ascii=False) + "\n").encode())


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON document with the hash of all else it says, which `read_json` checks, whatever its layout."""
    plain = {key: value for key, value in json.loads(json.dumps(to_dict(document))).items() if key != HASH}
    return {**plain, HASH: hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()}


def read_json(path: str | Path, remedy: str = "restore it") -> dict[str, Any]:
    """The object in a JSON file, which need not be `sealed`.

    Args:
        remedy: what to do about a file that cannot be used, for errors.

    Raises:
        InputError: the file does not exist, cannot be read, holds no JSON object, or another one than was written.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}); {remedy}.") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(document).__name__}; {remedy}.")
    if document.get(HASH, None) not in (None, sealed(document)[HASH]):
        raise InputError(f"{path}: damaged or changed since it was written, its hash is another; {remedy}.")
    return document


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

    Every line ends with its checksum, which `parse_line` checks and leaves out.

    Use as a context manager. Each `extend` is flushed to the operating system before it returns.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._cut_torn_line()
            self._file = open(self.path, "ab")  # noqa: SIM115 - closed in __exit__
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}).") from None

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        with open(self.path, "rb+") as file:
            end = size = file.seek(0, os.SEEK_END)
            while end:  # from the end, a log may be long
                start = max(end - BLOCK, 0)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
            if end < size:
                file.truncate(end)

    def extend(self, rows: Iterable[Any]) -> None:
        """Append rows; raises `InputError` when the disk is full, leaving all earlier lines intact."""
        self.extend_lines([b"".join(map(sealed_line, rows))])

    def extend_lines(self, lines: Iterable[bytes]) -> None:
        """As `extend` for lines of another log, which memory need not hold."""
        try:
            self._file.writelines(lines)
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


SUMS = "SHA256SUMS"
"""File in a folder with the hashes of its others, as `sha256sum` writes and checks it."""


def write_sums(folder: str | Path) -> None:
    """Write the hashes of a folder's files into it."""
    files = sorted(path for path in Path(folder).iterdir() if path.is_file() and path.name != SUMS)
    write_bytes(Path(folder) / SUMS, "".join(f"{file_hash(path)}  {path.name}\n" for path in files).encode())


def check_sums(folder: str | Path) -> None:
    """Check a folder's files against its `SHA256SUMS`, once in a process while they stay as they are.

    Raises:
        InputError: a file is damaged, changed or gone. A folder without such hashes is taken as it is.
    """
    sums = Path(folder) / SUMS
    if not sums.is_file():
        return
    for number, line in enumerate(sums.read_bytes().decode("utf-8", "replace").splitlines(), 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name or Path(name).name != name:
            raise InputError(
                f"{sums}:{number}: not a hash and a name; restore the file, or remove it to go on without."
            )
        path = sums.with_name(name)
        if not path.is_file() or _hash_of(str(path.resolve()), path.stat().st_mtime_ns, path.stat().st_size) != digest:
            raise InputError(
                f"{path}: damaged, changed or gone since it was saved; restore it, or, if that is meant, remove {sums}."
            )


@cache
def _hash_of(path: str, modified: int, size: int) -> str:
    return file_hash(path)


def check_archive(path: str | Path) -> None:
    """Check a zip archive, such as a file of `torch.save`, by the checksums in it.

    Raises:
        InputError: it is damaged, or no such archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except Exception as error:  # whatever a damaged directory of the archive leads to
        damaged = first_line(error)
    if damaged is not None:
        raise InputError(f"{path}: damaged or cut short ({damaged}); continue from another checkpoint, or start anew.")


def stable_hash(*parts: Any, bits: int = 63) -> int:
    """A non-negative integer below 2**bits that depends only on the parts' JSON form (not on the process)."""
    text = json.dumps(to_dict(parts), sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - bits)
