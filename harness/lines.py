"""A file's lines, read again when they are asked for: a million samples take megabytes, not the memory of a machine."""

from __future__ import annotations

import weakref
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from harness.errors import InputError

CHUNK = 1 << 16
"""Compressed bytes that are read at a time."""
STRIDE = 1 << 22
"""Bytes of text after which the state of decompression is kept."""


class Lines:
    """The lines of a `.jsonl` or `.jsonl.gz` file, of which memory holds where each ends.

    A compressed file is read from the last of the places where the state of its decompression was kept (40 KiB every
    4 MiB of text), so lines are best taken in their order. They are known as far as `scan` has come.

    Args:
        path: the file; what it holds must stay as it is, but it may be removed.

    Raises:
        InputError: it cannot be read, here or when a line is taken.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._ends = array("Q")
        self._points: list[tuple[int, int, Any]] = []
        """Of a compressed file: offsets in its text and in the file, and the decompressor there."""
        self._blocks: Iterator[bytes] | None = None
        self._start, self._buffer = 0, b""
        try:
            self._file: IO[bytes] = open(self.path, "rb")  # noqa: SIM115 - lives as long as this object
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror}).") from None
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return len(self._ends)

    def scan(self) -> Iterator[bytes]:
        """All lines, one after the other, with their line breaks; from then on they can be taken by number.

        Of a file that is not compressed only those that are not known yet, such as others have appended.
        """
        if self.path.suffix == ".gz":
            self._ends, self._points = array("Q"), []
        end = self._ends[-1] if self._ends else 0
        for line in self._split(end):
            end += len(line)
            self._ends.append(end)
            yield line

    def __getitem__(self, number: int) -> bytes:
        """A line by its number, from 0."""
        start, end = self._ends[number - 1] if number else 0, self._ends[number]
        if self.path.suffix != ".gz":
            self._file.seek(start)
            return self._file.read(end - start)
        point = max((point for point in self._points if point[0] <= start), key=lambda point: point[0])
        if self._blocks is None or start < self._start or point[0] > self._start + len(self._buffer):
            self._start, self._buffer, self._blocks = point[0], b"", self._inflate(point)
        while self._start + len(self._buffer) < end:
            done = min(max(start - self._start, 0), len(self._buffer))
            self._start, self._buffer = self._start + done, self._buffer[done:] + next(self._blocks)
        return self._buffer[start - self._start : end - self._start]

    def _split(self, start: int) -> Iterator[bytes]:
        if self.path.suffix != ".gz":
            self._file.seek(start)
            yield from self._file
            return
        rest = b""
        for block in self._inflate((0, 0, None), note=True):
            *lines, rest = (rest + block).split(b"\n")
            yield from (line + b"\n" for line in lines)
        if rest:
            yield rest

    def _inflate(self, point: tuple[int, int, Any], note: bool = False) -> Iterator[bytes]:
        """The text from a point on, in blocks; `note` keeps the points on the way."""
        text, offset, state = point
        unpack = state.copy() if state is not None else zlib.decompressobj(wbits=31)
        last = -STRIDE
        try:
            while True:
                if note and text - last >= STRIDE:
                    self._points.append((text, offset, unpack.copy()))
                    last = text
                self._file.seek(offset)
                chunk = self._file.read(CHUNK)
                offset += len(chunk)
                if not chunk:
                    if not unpack.eof:
                        raise EOFError("it ends before its compressed text does")
                    return
                if unpack.eof:  # files may be put together
                    unpack = zlib.decompressobj(wbits=31)
                block = unpack.decompress(chunk)
                while unpack.eof and unpack.unused_data:
                    left = unpack.unused_data
                    unpack = zlib.decompressobj(wbits=31)
                    block += unpack.decompress(left)
                text += len(block)
                yield block
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.path}: cannot be read ({error}).") from None
