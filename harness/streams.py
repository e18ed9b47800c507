"""What memory does not hold: sequences whose items are made when they are asked for, and bytes that wait on disk."""

from __future__ import annotations

import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar, overload

from harness.errors import InputError

Item = TypeVar("Item")


class Lazy(Sequence[Item]):
    """Items that are made anew whenever they are asked for, such as read from a file; the last one is remembered.

    Args:
        make: makes the item of a number.
        numbers: of the items, in their order.
    """

    def __init__(self, make: Callable[[int], Item], numbers: Sequence[int]) -> None:
        self._make, self._numbers = make, numbers
        self._last: tuple[int, Item] | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Lazy[Item]: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Lazy(self._make, self._numbers[index])
        number = self._numbers[index]
        if self._last is None or self._last[0] != number:
            self._last = number, self._make(number)
        return self._last[1]

    def __iter__(self) -> Iterator[Item]:
        return map(self._make, self._numbers)


def joined(parts: Sequence[Sequence[Item]]) -> Sequence[Item]:
    """The items of several sequences, one sequence after the other."""
    places = [(part, number) for part in parts for number in range(len(part))]

    def item(number: int) -> Item:
        part, place = places[number]
        return part[place]

    return Lazy(item, range(len(places)))


class Spool:
    """Blocks of bytes in a file without a name, which goes away with the process.

    Args:
        folder: on whose disk it is.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as this object
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}).") from None
        weakref.finalize(self, self._file.close)
        self._ends = array("Q")

    def append(self, block: bytes) -> int:
        """Write a block; the number by which it is read again. Raises `OSError` where the disk is full."""
        start = self._ends[-1] if self._ends else 0
        self._file.seek(start)
        self._file.write(block)
        self._ends.append(start + len(block))
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> bytes:
        start = self._ends[number - 1] if number else 0
        self._file.seek(start)
        return self._file.read(self._ends[number] - start)
