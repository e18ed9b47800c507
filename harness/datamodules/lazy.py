"""Rows that are tokenised when their step comes, so that a file of any size starts at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.datamodules.base import Counts
from harness.errors import InputError
from harness.sources import Source, find_parts, renamed
from harness.store import parse_line

BLOCK = 1 << 24
"""Bytes that are looked through at a time for the ends of lines."""


class Lines(Sequence[tuple[str, dict[str, Any]]]):
    """The rows of JSONL files, found by where their lines begin: 28 bytes a row, and nothing of their content.

    Raises:
        InputError: a source is in another form.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._columns = [source.columns for source in sources]
        self._paths: list[tuple[Path, str]] = []
        found: list[tuple[np.ndarray, ...]] = []
        for number, source in enumerate(sources):
            left = source.limit
            for part in find_parts(source):
                if part.lines is None:
                    raise InputError(
                        f"{source}: only rows of uncompressed .jsonl files can be found without reading them all; "
                        "write one, or set `tokenize: ahead`."
                    )
                starts, lengths = line_bounds(part.lines)
                lines = np.flatnonzero(lengths > 1)[:left]  # blank ones are no rows
                left = None if left is None else left - len(lines)
                same = np.full(len(lines), len(self._paths), np.int32)
                found.append((starts[lines], lengths[lines], lines + 1, same, np.full(len(lines), number, np.int64)))
                self._paths.append((part.lines, part.prefix))
        columns = [np.concatenate(column) for column in zip(*found, strict=True)]
        self._starts, self.lengths, self._numbers, self._files, self.sources = columns

    @cached_property
    def _descriptors(self) -> list[int]:
        return [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path, _ in self._paths]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        """(place, row)"""
        file = self._files[index]
        place = f"{self._paths[file][1]}{self._numbers[index]}"
        line = os.pread(self._descriptors[file], int(self.lengths[index]), int(self._starts[index]))
        row = parse_line(line.removeprefix(b"\xef\xbb\xbf"), place)
        return place, renamed(row, self._columns[self.sources[index]], place)


def line_bounds(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where each line of a file begins, and its length in bytes, the line break included."""
    ends, size = [], 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            ends.append(np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + (size + 1))
            size += len(block)
    stops = np.concatenate([*ends, np.zeros(0, np.int64)])
    if size and (not len(stops) or stops[-1] < size):
        stops = np.append(stops, size)
    starts = np.concatenate([np.zeros(1, np.int64), stops[:-1]])[: len(stops)]
    return starts, stops - starts


@dataclass(frozen=True)
class LazyCounts(Counts):
    """Of rows that nobody has read yet."""

    def __str__(self) -> str:
        return f"{self.rows} rows, each tokenised when its step comes"


class StepRows:
    """The tokenised rows of the step at hand.

    Args:
        load: numbers of rows -> their tokens laid out, and which of them are trained on.
        nothing: a row that stands where no row of a step is trained on.
    """

    def __init__(self, load: Callable[[Sequence[int]], tuple[Any, np.ndarray]], nothing: Any) -> None:
        self._load, self._nothing = load, nothing
        self._members: tuple[int, ...] = ()
        self._rows: Any = None
        self._places: dict[int, int] = {}

    def step(self, members: tuple[int, ...]) -> tuple[float, int]:
        """The denominator and the number of tokens of a step; 1 where no row of it is learnt from: its loss is 0."""
        if members != self._members:
            self._rows, kept = self._load(members)
            self._members = members
            self._places = {members[row]: place for place, row in enumerate(kept.tolist())}
        lengths, denominators = self._rows.sizes(None)
        return float(sum(denominators.tolist())) or 1.0, int(lengths.sum())

    def collate(self, indices: Sequence[int]) -> dict[str, Any]:
        """Rows of the step as tensors."""
        if not set(indices) <= set(self._members):
            self.step(tuple(indices))
        if not self._places:
            return self._nothing.collate(())
        return self._rows.collate([(self._places[index],) for index in indices if index in self._places])
