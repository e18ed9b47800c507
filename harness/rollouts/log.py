"""Rollouts on disk, chunk by chunk: what was sampled before is read back, the rest is sampled and appended."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import InputError
from harness.store import AppendLog, from_dict
from harness.types import Problem, Rollout, SamplingConfig


class RolloutLog:
    """A JSONL file of rollouts that a killed run left and the same run, started again, continues.

    The caller asks for the same chunks in the same order as before. A chunk that is complete on disk is read back; the
    first one that is not cuts the file there, is sampled anew and appended. So every chunk is sampled in one go, which
    makes the samples of a resumed run equal to those of an unbroken one.

    Args:
        path: the file; it need not exist.
        weights: fingerprint of the policy; rows drawn by another one are refused.
    """

    def __init__(self, path: str | Path, weights: str) -> None:
        self.path = Path(path)
        self.weights = weights
        self.num_sampled = 0
        """Rollouts sampled now, not read back."""
        with AppendLog(self.path):  # cuts a torn last line
            pass
        self._lines = self.path.read_bytes().splitlines(keepends=True)
        self._position = 0

    def chunk(
        self,
        problems: Sequence[Problem],
        sampling: SamplingConfig,
        sample: Callable[[Sequence[Problem]], Iterable[Rollout]],
    ) -> list[Rollout]:
        """The scored rollouts of `problems`, in their order.

        Raises:
            InputError: the rows on disk belong to other problems, settings or weights.
        """
        stored = self._lines[self._position : self._position + len(problems)]
        if len(stored) == len(problems):
            rollouts = [from_dict(Rollout, json.loads(line)) for line in stored]
            self._check(problems, sampling, rollouts)
        else:
            self._cut()
            by_id = {rollout.problem.id: rollout for rollout in sample(problems)}
            rollouts = [replace(by_id[problem.id], problem=problem) for problem in problems]
            with AppendLog(self.path) as log:
                log.extend(rollouts)
            self.num_sampled += len(rollouts)
        self._position += len(problems)
        return rollouts

    def _check(self, problems: Sequence[Problem], sampling: SamplingConfig, rollouts: Sequence[Rollout]) -> None:
        for offset, (problem, rollout) in enumerate(zip(problems, rollouts, strict=True)):
            differs = {
                "problem": (problem.id, rollout.problem.id),
                "sampling": (sampling, rollout.sampling),
                "weights": (self.weights, rollout.weights),
            }
            for what, (wanted, found) in differs.items():
                if wanted != found:
                    line = self._position + offset + 1
                    raise InputError(
                        f"{self.path}:{line}: drawn with another {what} ({found}, now {wanted}); "
                        "start in a new run directory, or delete the file to sample it again."
                    )

    def _cut(self) -> None:
        """Drop an incomplete chunk at the end of the file."""
        if self._position < len(self._lines):
            with open(self.path, "rb+") as file:
                file.truncate(sum(map(len, self._lines[: self._position])))
            self._lines = self._lines[: self._position]


def chunks(problems: Sequence[Problem], size: int) -> Iterable[Sequence[Problem]]:
    """Consecutive chunks of at most `size` problems."""
    starts = itertools.count(0, size)
    return itertools.takewhile(len, (problems[start : start + size] for start in starts))
