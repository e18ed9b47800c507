"""Rows on disk that a killed command left: those that are what is asked now are read back, the rest is made."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import InputError
from harness.provenance import Provenance, ProvenanceFile, describe_differences, differences, identity
from harness.store import AppendLog, parse_line, read_jsonl, sealed_line, to_row, write_bytes, write_rows
from harness.types import Problem, Rollout, SamplingConfig

log = logging.getLogger(__name__)

Row = TypeVar("Row")
Key = TypeVar("Key", bound=Hashable)
Judge = Callable[[Sequence[Rollout]], Iterable[Rollout]]
"""Grades and scores rollouts again, in their order; draws nothing."""


class RolloutLog:
    """A JSONL file of rollouts that a killed run left and the same run, started again, continues.

    The caller asks for the same chunks in the same order as before. A chunk that is complete on disk is read back; the
    first one that is not cuts the file there, is sampled anew and appended. So every chunk is sampled in one go, which
    makes the samples of a resumed run equal to those of an unbroken one.

    Rows of which only verdicts and rewards would be others now are graded again, and replaced in the file at its next
    change or at the end. Use as a context manager.

    Args:
        path: the file; it need not exist.
        provenance: what draws and judges its rows now, the sampling apart, which each row holds.
        judge: grades rows again.
    """

    def __init__(self, path: str | Path, provenance: Provenance, judge: Judge) -> None:
        self.path, self.provenance, self._judge = Path(path), provenance, judge
        with AppendLog(self.path):  # cuts a torn last line
            pass
        self._lines = self.path.read_bytes().splitlines(keepends=True)
        self._made_by = ProvenanceFile(self.path, provenance)
        self._position = 0
        self._changed = False
        """Whether `_lines` are others than those of the file."""
        self._num_judged = 0

    def __enter__(self) -> RolloutLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        if self._num_judged:
            log.warning("%s: %d rows were graded anew, not sampled.", self.path, self._num_judged)

    def chunk(
        self,
        problems: Sequence[Problem],
        sampling: SamplingConfig,
        sample: Callable[[Sequence[Problem]], Iterable[Rollout]],
    ) -> list[Rollout]:
        """The scored rollouts of `problems`, in their order.

        Raises:
            InputError: the rows on disk were drawn for other problems or otherwise than they would be now.
        """
        stop = self._position + len(problems)
        if len(self._lines) >= stop:
            rollouts = self._stored(problems, sampling)
        else:
            self._changed |= len(self._lines) > self._position
            del self._lines[self._position :]
            self._flush()
            by_id = {rollout.problem.id: rollout for rollout in sample(problems)}
            key = self.provenance.key
            rollouts = [replace(by_id[problem.id], problem=problem, provenance=key) for problem in problems]
            self._made_by.save()
            with AppendLog(self.path) as file:
                file.extend(rollouts)
        self._position = stop
        return rollouts

    def _stored(self, problems: Sequence[Problem], sampling: SamplingConfig) -> list[Rollout]:
        """The next rows of the file, graded again where they have to be."""
        start, key = self._position, self.provenance.key
        places = [f"{self.path}:{start + offset + 1}" for offset in range(len(problems))]
        lines = zip(self._lines[start : start + len(problems)], places, strict=True)
        rows = [to_row(Rollout, parse_line(line, place), place) for line, place in lines]
        stale = []
        for offset, (problem, row) in enumerate(zip(problems, rows, strict=True)):
            line = start + offset + 1
            judged_as_now = self._made_by.check(line, row.provenance)
            check_drawn(self.path, line, {"sampling": row.sampling}, {"sampling": sampling})
            check_problem(self.path, line, row.problem, problem, self.provenance.asked)
            if not judged_as_now or row.problem != problem:
                stale.append(offset)
        again = self._judge([replace(rows[offset], problem=problems[offset], provenance=key) for offset in stale])
        for offset, row in zip(stale, again, strict=True):
            rows[offset] = row
            self._lines[start + offset] = sealed_line(row)
        self._changed |= bool(stale)
        self._num_judged += len(stale)
        return rows

    def _flush(self) -> None:
        """Write the file anew if its lines have changed."""
        if self._changed:
            self._made_by.save()
            write_bytes(self.path, b"".join(self._lines))
            self._made_by.save(alone=self._position >= len(self._lines))
        self._changed = False


def check_drawn(path: Path, line: int, then: Any, now: Any) -> None:
    """Raise `InputError` if the identities of two things differ, with the name of what does."""
    if found := differences(identity(then), identity(now)):
        raise InputError(
            f"{path}:{line}: made with another {describe_differences(found)}; "
            "write to another file, or delete this one to make its rows again."
        )


def check_problem(path: Path, line: int, then: Problem, now: Problem, asked: Sequence[str]) -> None:
    """Raise `InputError` if a row is of another problem, or of one that was asked otherwise."""
    names = ("id", *asked)
    check_drawn(
        path,
        line,
        {"problem": {name: getattr(then, name) for name in names}},
        {"problem": {name: getattr(now, name) for name in names}},
    )


def complete(
    path: str | Path,
    kind: type[Row],
    key: Callable[[Row], Key],
    wanted: Sequence[Key],
    make: Callable[[list[Key]], Iterable[Row]],
    *,
    provenance: Provenance,
    problems: Mapping[str, Problem],
    progress: Callable[[int], None] = lambda count: None,
) -> list[Row]:
    """Make the rows that the file lacks, and return all wanted ones in their order.

    Rows that are in the file already are kept, so a run that was killed continues, and so does one that wants more than
    before. At the end the file is in the order wanted, whatever order the rows finished in.

    Args:
        path: JSONL file; it need not exist.
        kind: dataclass of a row, with fields `problem` and `provenance`.
        key: of a row.
        wanted: distinct keys.
        make: makes the rows of the missing keys, in any order.
        provenance: what makes the rows now; nothing of it only judges them.
        problems: by id, those that rows are wanted of.
        progress: told how many more rows there are, first those found in the file.

    Raises:
        InputError: a row in the file was made otherwise than it would be now.
    """
    path = Path(path)
    with AppendLog(path) as log:
        found: dict[Key, Any] = {}
        made_by = ProvenanceFile(path, provenance)
        for number, data in read_jsonl(path):
            row: Any = to_row(kind, data, f"{path}:{number}")
            made_by.check(number, row.provenance)
            if row.problem.id in problems:
                check_problem(path, number, row.problem, problems[row.problem.id], provenance.asked)
            found[key(row)] = row
        missing = [name for name in wanted if name not in found]
        progress(len(wanted) - len(missing))
        if missing:
            made_by.save()
        for made in make(missing) if missing else ():
            row = replace(made, provenance=provenance.key)  # type: ignore[type-var]
            log.extend([row])
            found[key(row)] = row
            progress(1)
    if missing:
        order = {name: rank for rank, name in enumerate(wanted)}
        write_rows(path, sorted(found.values(), key=lambda row: order.get(key(row), len(order))), sealed=True)
    return [found[name] for name in wanted]


def chunks(problems: Sequence[Problem], size: int) -> Iterable[Sequence[Problem]]:
    """Consecutive chunks of at most `size` problems."""
    starts = itertools.count(0, size)
    return itertools.takewhile(len, (problems[start : start + size] for start in starts))
