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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from harness.datamodules.tokenize import TextRow, Tokens, encode_rows
from harness.errors import InputError
from harness.prompts.templates import PromptTemplate

PIECE = 1000
"""Rows that are tokenised at a time."""
FORMAT = 2
"""To be raised when the meaning of the files changes."""
COLUMNS = ("ends", "last", "weights", "places", "empty", "chat")

Read = Callable[[Sequence[str], PromptTemplate, Any], Iterator[TextRow]]
"""A reader of rows that all have the same number of responses."""


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
    """(R, 2) int64: number of the file and line that a row was read from."""
    empty: np.ndarray
    """(R,) bool: whether the text of a response was empty."""
    chat: np.ndarray
    """(R,) bool: whether a chat template wrote the prompt."""

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> np.ndarray:
        """(R, C) tokens of each text."""
        return np.diff(self.ends.ravel(), prepend=0).reshape(self.ends.shape)

    def texts(self, row: int) -> tuple[Tokens, ...]:
        """The token ids of a row's texts."""
        first = int(self.ends[row - 1, -1]) if row else 0
        cuts = [first, *self.ends[row].tolist()]
        return tuple(self.ids[a:b] for a, b in itertools.pairwise(cuts))


def build_table(files: Sequence[str], read: Read, template: PromptTemplate, tokenizer: Any) -> TokenTable:
    """Read and tokenise files into memory; raises `InputError` as `read` does."""
    pieces = list(_pieces(read(files, template, tokenizer), files, tokenizer))
    ids = [part for piece, _ in pieces for part in piece]
    return TokenTable(np.concatenate(ids) if ids else np.zeros(0, np.int32), **_columns([c for _, c in pieces]))


def write_table(folder: Path, files: Sequence[str], read: Read, template: PromptTemplate, tokenizer: Any) -> None:
    """Read and tokenise files into a folder for `open_table`, piece by piece; it is there whole or not at all.

    Raises:
        InputError: as `read` does, or the folder cannot be written.
    """
    new = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.new")  # ranks and runs may write at the same time
    try:
        new.mkdir(parents=True)
        columns = []
        with open(new / "ids.bin", "wb") as out:
            for ids, column in _pieces(read(files, template, tokenizer), files, tokenizer):
                for part in ids:
                    out.write(part.tobytes())
                columns.append(column)
        for name, values in _columns(columns).items():
            np.save(new / f"{name}.npy", values)
        os.replace(new, folder)
    except OSError as error:
        if not folder.is_dir():  # else another run was faster
            raise InputError(
                f"{folder}: the tokenised rows cannot be written ({error.strerror or error}); free space, or set "
                "XDG_CACHE_HOME to another folder."
            ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def open_table(folder: Path) -> TokenTable:
    """Map what `write_table` has left; raises `InputError` for files that are missing or damaged."""
    try:
        columns = {name: np.load(folder / f"{name}.npy") for name in COLUMNS}
        num_tokens = int(columns["ends"].max(initial=0))
        if (folder / "ids.bin").stat().st_size != 4 * num_tokens:
            raise ValueError(f"ids.bin does not hold {num_tokens} tokens")
        ids = np.memmap(folder / "ids.bin", np.int32, mode="r") if num_tokens else np.zeros(0, np.int32)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{folder}: the tokenised rows cannot be read ({error}); delete the folder.") from error
    return TokenTable(ids, **columns)


def table_key(files: Sequence[str], read: Read, template: PromptTemplate, tokenizer: Any) -> str:
    """Hash of all that a table depends on."""
    options = {name: getattr(template, name) for name in template.prompting}
    versions = {name: version(name) for name in ("transformers", "tokenizers")}
    digest = hashlib.sha256(json.dumps([FORMAT, read.__name__, options, versions], sort_keys=True).encode())
    with tempfile.TemporaryDirectory() as folder:
        # What a tokenizer does is in the files that it writes, whatever its class.
        tokenizer.save_pretrained(folder)
        paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        for path in (*paths, *map(Path, files)):
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


Column = dict[str, np.ndarray]


def _pieces(rows: Iterable[TextRow], files: Sequence[str], tokenizer: Any) -> Iterator[tuple[list[Tokens], Column]]:
    """The token ids of some rows, text after text, with the columns of the table for them."""
    numbers = {str(file): number for number, file in enumerate(files)}
    rows = iter(rows)
    total = 0
    while piece := list(itertools.islice(rows, PIECE)):
        encoded = encode_rows(piece, tokenizer)
        lengths = np.array([[len(text) for text in texts] for texts in encoded], np.int64)
        ends = total + lengths.cumsum().reshape(lengths.shape)
        total = int(ends[-1, -1])
        places = [row.where.rpartition(":") for row in piece]
        yield (
            [text for texts in encoded for text in texts],
            {
                "ends": ends,
                "last": np.array([[text[-1] if len(text) else -1 for text in texts] for texts in encoded], np.int32),
                "weights": np.array([row.weight for row in piece]),
                "places": np.array([(numbers[file], int(line)) for file, _, line in places], np.int64),
                "empty": np.array([not all(row.responses) for row in piece]),
                "chat": np.array([row.chat for row in piece]),
            },
        )


def _columns(pieces: Sequence[Column]) -> Column:
    if not pieces:
        return {
            "ends": np.zeros((0, 1), np.int64),
            "last": np.zeros((0, 1), np.int32),
            "weights": np.zeros(0),
            "places": np.zeros((0, 2), np.int64),
            "empty": np.zeros(0, bool),
            "chat": np.zeros(0, bool),
        }
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in COLUMNS}
