"""Lets the first rank work, for hours if need be, while the others wait for it."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from lightning import Trainer

POLL_SECONDS = 0.2


class Turns:
    """The ranks of one run take turns through a folder that all of them see.

    A collective barrier would do the same, but it gives up after a time-out made for training steps.
    """

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self._trainer = trainer
        self._alone = trainer.world_size == 1
        token = trainer.strategy.broadcast(uuid.uuid4().hex)
        self._folder = folder / f".turns-{token}"
        self._number = 0

    @contextlib.contextmanager
    def first_rank(self) -> Iterator[bool]:
        """Yields True on the first rank; the others get False and leave the block once the first has left it.

        Raises:
            RuntimeError: on the other ranks, if the first one failed.
        """
        first, self._number = self._trainer.is_global_zero, self._number + 1
        if self._alone:
            yield True
            return
        result = self._folder / str(self._number)
        if first:
            self._folder.mkdir(parents=True, exist_ok=True)
            outcome = "failed"
            try:
                yield True
                outcome = "done"
            finally:
                result.with_suffix(".tmp").write_text(outcome)
                result.with_suffix(".tmp").rename(result)
            return
        yield False
        while not result.exists():
            time.sleep(POLL_SECONDS)
        if result.read_text() != "done":
            raise RuntimeError("the first rank failed; its own error says why")

    def close(self) -> None:
        """Remove the folder; called by all ranks when no turn is under way."""
        if self._trainer.is_global_zero and self._folder.exists():
            for file in self._folder.iterdir():
                file.unlink()
            self._folder.rmdir()
