"""Rows as people have them: JSONL, JSON, parquet, CSV, Arrow, folders of them, data sets of the hub.

Training, preferences, problems and tasks are read here and nowhere else. A row is a JSON object with the place that it
stands at, which begins every message about it. Nothing is read as a whole: memory does not grow with the file.
"""

from __future__ import annotations

import codecs
import csv
import functools
import gzip
import hashlib
import itertools
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import InputError, first_line
from harness.store import file_hash, from_mapping, parse_line

Row = dict[str, Any]
BATCH = 1000
"""Rows of a table that are turned into objects at a time."""
BLOCK = 1 << 20
"""Characters of a JSON document that are read at a time."""
LONGEST = 1 << 26
"""Characters of the longest object in a JSON document."""
SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Splits, and the words by which names of files and folders tell them, as on the hub."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Source:
    """Where rows are read from, and which of them."""

    path: str
    """A file, a folder of files, a folder that `datasets` saved, or a data set of the hub (OWNER/NAME)."""
    split: str = ""
    """Of a folder or a data set; "train" where there are several and none is named (of tasks "test")."""
    config: str = ""
    """Of a data set of the hub that has several."""
    revision: str = ""
    """Commit, tag or branch of a data set of the hub."""
    columns: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    """Name under which a column is looked for -> its name in the file; null hides a column."""
    weight: float | None = None
    """Share of this source in the rows of an epoch, relative to the weights of the others; none takes every row."""
    limit: int | None = None
    """Only the first so many rows."""

    def __str__(self) -> str:
        return f"{self.path}[{self.split}]" if self.split else self.path


Given = str | Path | Mapping[str, Any] | Source
"""How a source may be named: its path, or the fields of `Source`."""


@dataclass(frozen=True)
class Part:
    """Rows of a source that stand in one file, or in one data set of the hub."""

    prefix: str
    """What stands before the number of a row where its place is named."""
    open: Callable[[], Iterator[tuple[int, Row]]]
    digest: Callable[[], str]
    """Hash of the content."""
    size: int
    """Bytes."""
    lines: Path | None = None
    """The file, if each of its lines is a row and can be read alone."""


def find_source(given: Given, split: str = "", columns: Mapping[str, str | None] | None = None) -> Source:
    """A source as a configuration or the command line names it.

    Args:
        given: its path, or the fields of `Source` as a mapping.
        split: taken where the source names none.
        columns: taken where the source names none.

    Raises:
        InputError: an unknown field, or a value that it cannot have.
    """
    if isinstance(given, Mapping):
        given = from_mapping(Source, given, f"source {given.get('path', given)!s:.80}")
    source = given if isinstance(given, Source) else Source(str(given))
    place = f"source {source.path}"
    if not isinstance(source.columns, Mapping) or any(
        not isinstance(name, str) or not isinstance(column, str | None) for name, column in source.columns.items()
    ):
        raise InputError(f"{place}: columns is {source.columns!r:.80}; give the column of each name, as in prompt: q.")
    if source.limit is not None and source.limit < 1:
        raise InputError(f"{place}: limit must be at least 1 or null, found {source.limit}.")
    if source.weight is not None and not 0 < source.weight < float("inf"):
        raise InputError(f"{place}: weight must be above 0 or null, found {source.weight}; leave the source out.")
    return replace(source, split=source.split or split, columns=source.columns or dict(columns or {}))


def read_source(source: Source) -> Iterator[tuple[str, Row]]:
    """(place, row) of each row; the place is file and line, or file and number of the row from 1.

    Raises:
        InputError: the source cannot be found or read, or a row is malformed, or lacks a column that `columns` names.
    """
    for _, _, place, row in read_numbered([source]):
        yield place, row


def read_numbered(sources: Sequence[Source]) -> Iterator[tuple[int, int, str, Row]]:
    """(number of the part, number in the part, place, row) of each row of several sources; see `read_source`."""
    number = 0
    for source in sources:
        parts = find_parts(source)
        rows = ((i, part, n, row) for i, part in enumerate(parts, number) for n, row in part.open())
        for i, part, n, row in itertools.islice(rows, source.limit):
            place = f"{part.prefix}{n}"
            yield i, n, place, renamed(row, source.columns, place) if source.columns else row
        number += len(parts)


def renamed(row: Row, columns: Mapping[str, str | None], place: str) -> Row:
    """The row with its columns under the names they are looked for by; raises `InputError` for one that is missing."""
    for name, column in columns.items():
        if column is not None and column not in row:
            raise InputError(f"{place}: columns takes '{name}' from '{column}', which is missing; found {sorted(row)}.")
    taken = {*columns, *columns.values()}
    kept = {name: value for name, value in row.items() if name not in taken}
    return kept | {name: row[column] for name, column in columns.items() if column is not None}


def find_parts(source: Source) -> list[Part]:
    """The files that a source's rows stand in, in order; opens none of them.

    Raises:
        InputError: there is no such file, folder or data set, it has no such split, or is of an unknown kind.
    """
    path = Path(source.path)
    if path.is_file():
        if source.split:
            raise InputError(f"{path}: is a file and has no split '{source.split}'; leave split out.")
        return [_file(path)]
    if path.is_dir():
        return _folder(path, source.split)
    if suffix_of(source.path) is None and HUB_ID.fullmatch(source.path):
        return [_hub(source)]
    if suffix_of(source.path) is None:
        raise InputError(
            f"{path}: no such file or folder; give the path of an existing .jsonl or other file ({', '.join(FORMATS)})"
            ", of a folder of them, or a data set of the hub (OWNER/NAME)."
        )
    raise InputError(f"{path}: no such file; give the path of an existing {suffix_of(source.path)} file.")


def suffix_of(path: str | Path) -> str | None:
    """The ending by which a file of rows is known, `.jsonl.gz` without `.gz`; None of any other."""
    name = Path(path).name.removesuffix(".gz")
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), None)


def content_hash(sources: Iterable[Source]) -> str:
    """Hash of all that the rows of sources depend on, whatever the names of their files; 64 hex digits."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(json.dumps([dict(source.columns), source.limit], sort_keys=True).encode())
        for part in find_parts(source):
            digest.update(part.digest().encode())
    return digest.hexdigest()


def num_bytes(sources: Iterable[Source]) -> int:
    """Bytes of the files of sources."""
    return sum(part.size for source in sources for part in find_parts(source))


# Files of each format.


def _file(path: Path) -> Part:
    suffix = suffix_of(path)
    if suffix is None:
        raise InputError(f"{path}: of an unknown kind; name it by what it holds ({', '.join(FORMATS)}).")
    of_lines = suffix in (".jsonl", ".ndjson")
    return Part(
        f"{path}:" if of_lines else f"{path}: row ",
        lambda: _guarded(path, FORMATS[suffix]),
        lambda: file_hash(path),
        path.stat().st_size,
        path if of_lines and path.suffix != ".gz" else None,
    )


def _guarded(path: Path, read: Callable[[Path], Iterator[tuple[int, Row]]]) -> Iterator[tuple[int, Row]]:
    try:
        yield from read(path)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start + 1}).") from None
    except (OSError, EOFError, zlib.error, csv.Error, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise InputError(f"{path}: cannot be read ({first_line(error)}).") from None


def _open(path: Path, mode: str, **options: Any) -> Any:
    return gzip.open(path, mode, **options) if path.suffix == ".gz" else open(path, mode, **options)


def _jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    with _open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
                if line.lstrip().startswith(b"["):
                    raise InputError(f"{path}:1: a JSON list, where every line must be an object; name the file .json.")
            if line.strip():
                yield number, parse_line(line, f"{path}:{number}")


def _json(path: Path) -> Iterator[tuple[int, Row]]:
    """The objects of a list, or objects one after another."""
    decoder = json.JSONDecoder()
    with _open(path, "rt", encoding="utf-8-sig") as file:
        text, at, number, listed = file.read(BLOCK), 0, 0, False
        while True:
            at = re.compile(r"[\s,]*").match(text, at).end()  # type: ignore[union-attr]
            if not number and not listed and text.startswith("[", at):
                at, listed = at + 1, True
                continue
            if listed and text.startswith("]", at):
                return
            try:
                row, at = decoder.raw_decode(text, at)
            except json.JSONDecodeError as error:
                # Cut off at the end of what has been read, or wrong.
                block = file.read(max(BLOCK, len(text) - at)) if len(text) - at < LONGEST else ""
                if not block:
                    if at == len(text) and not listed:
                        return
                    reason = f"{error.msg} at character {error.pos - at + 1} of it" if at < len(text) else "cut short"
                    raise InputError(f"{path}: row {number + 1}: not valid JSON ({reason}).") from None
                text, at = text[at:] + block, 0
                continue
            number += 1
            if not isinstance(row, dict):
                raise InputError(f"{path}: row {number}: expected a JSON object, found {type(row).__name__}.")
            yield number, row


def _csv(path: Path, delimiter: str = ",") -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(sys.maxsize)
    with _open(path, "rt", encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        header = next(rows, [])
        if len(set(header)) < len(header):
            raise InputError(f"{path}: row 0: two columns have one name in {header!r:.80}; rename one.")
        for number, cells in enumerate((cells for cells in rows if cells), 1):
            if len(cells) != len(header):
                raise InputError(
                    f"{path}: row {number}: {len(cells)} cells for {len(header)} columns ({', '.join(header)!s:.80}); "
                    'put texts that hold a separator or a line break between ".'
                )
            yield number, {name: _cell(cell) for name, cell in zip(header, cells, strict=True)}


def _tsv(path: Path) -> Iterator[tuple[int, Row]]:
    return _csv(path, "\t")


def _cell(text: str) -> Any:
    """The text of a cell, or the list of objects, such as messages, that it writes as JSON."""
    if text.startswith("["):
        try:
            value = json.loads(text)
        except ValueError:
            return text
        if value and isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return value
    return text


def _parquet(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        yield from _of_tables(file.iter_batches(batch_size=BATCH))


def _arrow(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow

    with pyarrow.memory_map(str(path)) as file:
        start = file.read(6)
        file.seek(0)
        # `datasets` writes the streaming format; others (Feather) the one with a footer.
        if start == b"ARROW1":
            reader = pyarrow.ipc.open_file(file)
            batches: Iterable[Any] = (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            batches = pyarrow.ipc.open_stream(file)
        yield from _of_tables(batches)


def _of_tables(tables: Iterable[Any]) -> Iterator[tuple[int, Row]]:
    number = 0
    for table in tables:
        for start in range(0, table.num_rows, BATCH):
            for row in table.slice(start, BATCH).to_pylist():
                number += 1
                yield number, _present(row)


def _present(value: Any) -> Any:
    """A value of a table without the keys that its row does not have, which a table fills with nulls."""
    if isinstance(value, dict):
        return {key: _present(item) for key, item in value.items() if item is not None}
    return [_present(item) for item in value] if isinstance(value, list) else value


FORMATS: Mapping[str, Callable[[Path], Iterator[tuple[int, Row]]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _tsv,
    ".arrow": _arrow,
}
"""Ending of a file's name -> what yields the number and the content of each row."""


# Folders and data sets.


def _folder(path: Path, split: str) -> list[Part]:
    """The parts of a folder: one that `datasets` saved, with or without splits, or any that holds files of rows."""
    if (path / "dataset_dict.json").is_file():
        names = _document(path / "dataset_dict.json").get("splits") or []
        return _folder(path / _choose(names, split, path), "")
    if (path / "state.json").is_file():
        state = _document(path / "state.json")
        if split not in ("", state.get("_split")):
            raise InputError(f"{path}: has no split '{split}'; it holds {state.get('_split') or 'no splits'}.")
        return [_file(path / file["filename"]) for file in state.get("_data_files") or []]
    files = sorted(
        file
        for file in path.rglob("*")
        if suffix_of(file) and file.is_file() and not any(part[0] in "._" for part in file.relative_to(path).parts)
    )
    if not files:
        raise InputError(f"{path}: holds no file of rows ({', '.join(FORMATS)}).")
    of_split: dict[str, list[Path]] = {}
    for file in files:
        of_split.setdefault(_split_of(file.relative_to(path)), []).append(file)
    if set(of_split) == {""} and not split:
        return [_file(file) for file in files]
    return [_file(file) for file in of_split[_choose([name for name in of_split if name], split, path)]]


def splits_of(path: Path) -> list[str]:
    """The splits of a folder by name; none of a file, or of a folder that is all one."""
    if (path / "dataset_dict.json").is_file():
        return list(_document(path / "dataset_dict.json").get("splits") or [])
    if not path.is_dir() or (path / "state.json").is_file():
        return []
    return sorted({_split_of(file.relative_to(path)) for file in path.rglob("*") if suffix_of(file)} - {""})


def _split_of(file: Path) -> str:
    """The split that a file's name or a folder's tells by one of the words of `SPLITS`."""
    words = re.split(r"[^a-z]+", str(file).lower())
    return next((split for split, names in SPLITS.items() if not set(names).isdisjoint(words)), "")


def _choose(names: Sequence[str], split: str, path: Path) -> str:
    wanted = split or "train"
    if wanted in names:
        return wanted
    if len(names) == 1 and not split:
        return names[0]
    held = f"but {', '.join(names)}; name one of them by split" if names else "and no others; leave split out"
    raise InputError(f"{path}: has no split '{wanted}', {held}.")


def _document(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}); save the data set again.") from None


def _hub(source: Source) -> Part:
    data = load_hub(source)
    origin = f"{source.path}@{source.revision}" if source.revision else source.path

    def rows() -> Iterator[tuple[int, Row]]:
        return _of_tables(data.with_format("arrow").iter(batch_size=BATCH))

    return Part(f"{origin} row ", rows, lambda: str(data._fingerprint), int(data.size_in_bytes or 0))


@functools.lru_cache
def load_hub(source: Source) -> Any:
    """A split of a data set of the hub, mapped from the files that `datasets` keeps of it.

    Raises:
        InputError: it cannot be fetched.
    """
    from datasets import load_dataset

    try:
        return load_dataset(
            source.path, source.config or None, split=source.split or "train", revision=source.revision or None
        )
    except Exception as error:  # whatever the hub's client raises: no network, no such data set, no right to read it
        raise InputError(
            f"{source.path}: no such file or folder, and it cannot be fetched from the hub ({first_line(error)}); "
            "give a path, or correct name, split, config or revision."
        ) from error
