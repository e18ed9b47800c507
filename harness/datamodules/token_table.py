"""Rows as token ids in flat arrays: 4 bytes a token, in memory while they are few, else in files that are mapped.

The files lie in the user's cache folder under a hash of everything that they depend on: the content of the rows, the
template, the tokenizer. So a second start and a resumed run find them, all ranks of it the same.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from harness.datamodules.tokenize import ReadRow, TextRow, Tokens, encode_rows
from harness.errors import InputError
from harness.prompts.templates import PromptTemplate
from harness.sources import Source, content_hash, find_parts, read_numbered
from harness.store import file_hash

PIECE = 1000
"""Rows that are tokenised at a time."""
FORMAT = 3
"""To be raised when the meaning of the files changes."""
COLUMNS = ("ends", "last", "weights", "places", "empty", "chat", "labels")


@dataclass(frozen=True)
class TokenTable:
    """R rows of C texts each: a prompt, then its responses, without any EOS appended."""

    ids: np.ndarray
    """(N,) int32, text after text."""
    ends: np.ndarray
    """(R, C) int64: where each text ends in `ids`, and the next one begins."""
    last: np.ndarray
    """(R, C) int32: the last token of each text, -1 of an empty one."""
    weights: np.ndarray
    """(R,) float64."""
    places: np.ndarray
    """(R, 2) int64: number of the part (`harness.sources.Part`) that a row was read from, and its number there."""
    empty: np.ndarray
    """(R,) bool: whether the text of a response was empty."""
    chat: np.ndarray
    """(R,) bool: whether a chat template wrote the prompt."""
    labels: np.ndarray
    """(R,) float32: of rows that have one each; NaN of others."""
    prefixes: tuple[str, ...] = ()
    """Of each part, what stands before the number of a row."""
    sources: np.ndarray | None = None
    """(R,) int64: number of the source that a row was read from."""

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> np.ndarray:
        """(R, C) tokens of each text."""
        return np.diff(self.ends.ravel(), prepend=0).reshape(self.ends.shape)

    def where(self, row: int) -> str:
        """File and line of a row."""
        part, number = self.places[row].tolist()
        return f"{self.prefixes[part]}{number}"

    def texts(self, row: int) -> tuple[Tokens, ...]:
        """The token ids of a row's texts."""
        first = int(self.ends[row - 1, -1]) if row else 0
        cuts = [first, *self.ends[row].tolist()]
        return tuple(self.ids[a:b] for a, b in itertools.pairwise(cuts))


def build_table(sources: Sequence[Source], read: ReadRow, template: PromptTemplate, tokenizer: Any) -> TokenTable:
    """Read and tokenise sources into memory; raises `InputError` as `read_source` and `read` do."""
    pieces = list(_pieces(sources, read, template, tokenizer))
    ids = [part for piece, _ in pieces for part in piece]
    table = TokenTable(np.concatenate(ids) if ids else np.zeros(0, np.int32), **_columns([c for _, c in pieces]))
    return placed(table, sources)


def table_of(rows: Sequence[TextRow], tokenizer: Any) -> TokenTable:
    """Some rows tokenised, each the only one of a part of its own."""
    encoded = encode_rows(rows, tokenizer)
    columns = _column(rows, [(i, 0) for i in range(len(rows))], encoded, 0)
    return TokenTable(np.concatenate([ids for row in encoded for ids in row]), **columns)


def placed(table: TokenTable, sources: Sequence[Source]) -> TokenTable:
    """The table with the names of what its rows were read from, which may have moved since."""
    parts = [(part.prefix, number) for number, source in enumerate(sources) for part in find_parts(source)]
    prefixes, numbers = zip(*parts, strict=True) if parts else ((), ())
    return replace(table, prefixes=prefixes, sources=np.array(numbers, np.int64)[table.places[:, 0]])


def write_table(
    folder: Path, sources: Sequence[Source], read: ReadRow, template: PromptTemplate, tokenizer: Any
) -> None:
    """Read and tokenise sources into a folder for `open_table`, piece by piece; it is there whole or not at all.

    Raises:
        InputError: as `read_source` and `read` do, or the folder cannot be written.
    """
    new = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.new")  # other machines may write at the same time
    try:
        new.mkdir(parents=True)
        columns = []
        with open(new / "ids.bin", "wb") as out:
            for ids, column in _pieces(sources, read, template, tokenizer):
                for part in ids:
                    out.write(part.tobytes())
                columns.append(column)
        for name, values in _columns(columns).items():
            np.save(new / f"{name}.npy", values)
        os.replace(new, folder)
    except OSError as error:
        if not folder.is_dir():  # else a run on another machine was faster
            raise InputError(
                f"{folder}: the tokenised rows cannot be written ({error.strerror or error}); free space, or set "
                "XDG_CACHE_HOME to another folder."
            ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def open_table(folder: Path, sources: Sequence[Source]) -> TokenTable:
    """Map what `write_table` has left of sources; raises `InputError` for files that are missing or damaged."""
    try:
        columns: Column = {name: np.load(folder / f"{name}.npy") for name in COLUMNS}
        num_tokens = int(columns["ends"].max(initial=0))
        if (folder / "ids.bin").stat().st_size != 4 * num_tokens:
            raise ValueError(f"ids.bin does not hold {num_tokens} tokens")
        ids = np.memmap(folder / "ids.bin", np.int32, mode="r") if num_tokens else np.zeros(0, np.int32)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{folder}: the tokenised rows cannot be read ({error}); delete the folder.") from error
    return placed(TokenTable(ids, **columns), sources)


def table_key(sources: Sequence[Source], read: ReadRow, template: PromptTemplate, tokenizer: Any) -> str:
    """Hash of all that a table depends on."""
    options = {name: getattr(template, name) for name in template.prompting}
    versions = {name: version(name) for name in ("transformers", "tokenizers")}
    digest = hashlib.sha256(json.dumps([FORMAT, read.__name__, options, versions], sort_keys=True).encode())
    with tempfile.TemporaryDirectory() as folder:
        # What a tokenizer does is in the files that it writes, whatever its class.
        tokenizer.save_pretrained(folder)
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            digest.update(bytes.fromhex(file_hash(path)))
    digest.update(content_hash(sources).encode())
    return digest.hexdigest()[:16]


Column = dict[str, Any]


def _pieces(
    sources: Sequence[Source], read: ReadRow, template: PromptTemplate, tokenizer: Any
) -> Iterator[tuple[list[Tokens], Column]]:
    """The token ids of some rows, text after text, with the columns of the table for them."""
    rows = read_numbered(sources)
    total = 0
    while piece := list(itertools.islice(rows, PIECE)):
        texts = [read(where, row, template, tokenizer) for _, _, where, row in piece]
        encoded = encode_rows(texts, tokenizer)
        column = _column(texts, [(part, number) for part, number, _, _ in piece], encoded, total)
        total = int(column["ends"][-1, -1])
        yield [ids for row in encoded for ids in row], column


def _column(
    rows: Sequence[TextRow], places: Sequence[tuple[int, int]], encoded: Sequence[tuple[Tokens, ...]], total: int
) -> Column:
    lengths = np.array([[len(text) for text in texts] for texts in encoded], np.int64)
    return {
        "ends": total + lengths.cumsum().reshape(lengths.shape),
        "last": np.array([[text[-1] if len(text) else -1 for text in texts] for texts in encoded], np.int32),
        "weights": np.array([row.weight for row in rows]),
        "places": np.array(places, np.int64),
        "empty": np.array([not all(row.responses) for row in rows]),
        "chat": np.array([row.chat for row in rows]),
        "labels": np.array([row.labels[0] if row.labels else np.nan for row in rows], np.float32),
    }


def _columns(pieces: Sequence[Column]) -> Column:
    if not pieces:
        return {
            "ends": np.zeros((0, 1), np.int64),
            "last": np.zeros((0, 1), np.int32),
            "weights": np.zeros(0),
            "places": np.zeros((0, 2), np.int64),
            "empty": np.zeros(0, bool),
            "chat": np.zeros(0, bool),
            "labels": np.zeros(0, np.float32),
        }
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in COLUMNS}
