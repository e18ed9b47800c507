"""What the real library of Weights & Biases has written offline."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def records(log: bytes) -> Iterator[Any]:
    """The records of a run's transaction log.

    The log is 7 bytes of header, then LevelDB's log format: blocks of 32 KiB of records, each with a checksum (4
    bytes), a length (2), and a type (1) that tells whole records (1) from first (2), middle (3) and last (4) parts.
    """
    from wandb.proto import wandb_internal_pb2

    place, parts = 7, b""
    while place + 7 <= len(log):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = int.from_bytes(log[place + 4 : place + 6], "little"), log[place + 6]
        parts += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def offline_records(folder: Path, whole: Callable[[list[Any]], bool]) -> list[Any]:
    """Those of the only offline run below a folder, once they are whole: W&B's own process writes them, and may end
    after `finish`."""
    deadline = time.monotonic() + 120
    while True:
        found = [each for log in folder.glob("wandb/offline-run-*/*.wandb") for each in records(log.read_bytes())]
        if whole(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
