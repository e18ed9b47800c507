"""Rows on disk that a killed command left: those that are what is asked now are read back, the rest is made."""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import InputError
from harness.lines import Lines
from harness.provenance import Provenance, ProvenanceFile, describe_differences, differences, identity
from harness.rollouts.team import Block, Draw, Kind, Team
from harness.store import AppendLog, parse_line, read_jsonl, sealed_line, to_row, write_lines, write_rows
from harness.types import Problem, Rollout, SamplingConfig

log = logging.getLogger(__name__)

Row = TypeVar("Row")
Key = TypeVar("Key", bound=Hashable)
Judge = Callable[[Sequence[Rollout]], Iterable[Rollout]]
"""Grades and scores rollouts again, in their order; draws nothing."""


class RolloutLog:
    """A JSONL file of rollouts that a killed run left and the same run, started again, continues.

    The caller asks for the same blocks of problems in the same order as before. What the file holds is read back. The
    rows of the block under way lie, in the order in which they finished, in one file beside it for each rank that
    samples (`part_file`); once the block is complete they are appended to the file in the order of the problems. So a
    killed run loses only the problems it had in flight, the file does not tell who sampled what, and a run may go on
    with another number of ranks.

    Rows of which only verdicts and rewards would be others now are graded again, and replaced in the file at its next
    change or at the end. Use as a context manager.

    Args:
        path: the file; it need not exist.
        provenance: what draws and judges its rows now, the sampling apart, which each row holds.
        judge: grades rows again.
        team: who samples; default is this process alone.
        tokens: how many this process has sampled so far.
    """

    def __init__(
        self,
        path: str | Path,
        provenance: Provenance,
        judge: Judge,
        team: Team | None = None,
        tokens: Callable[[], int] = lambda: 0,
    ) -> None:
        self.path, self.provenance, self._judge = Path(path), provenance, judge
        self._team, self._tokens = team or Team(), tokens
        for file in (self.path, *self._parts()):
            with AppendLog(file):  # cuts a torn last line
                pass
        self._lines = Lines(self.path)
        for _ in self._lines.scan():
            pass
        self._replaced: dict[int, bytes] = {}
        """Lines of rows that were graded again, by number."""
        self._made_by = ProvenanceFile(self.path, provenance)
        self._position = 0
        self._changed = False
        """Whether there are some that the file does not hold."""
        self._num_judged = 0
        self._merged: set[tuple[str, SamplingConfig]] = set()
        """Problems and sampling of the file's rows so far."""

    def __enter__(self) -> RolloutLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._flush()
        if kind is None:  # what is left was merged before a kill
            self._remove_parts()
        if self._num_judged:
            log.warning("%s: %d rows were graded anew, not sampled.", self.path, self._num_judged)

    def block(
        self,
        problems: Sequence[Problem],
        sampling: SamplingConfig,
        draw: Draw,
        *,
        kind: Kind = "sample",
        iteration: int = 0,
        width: int = 1,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[Rollout]:
        """The scored rollouts of `problems`, in their order.

        Args:
            draw: samples problems on this rank.
            kind, iteration, width: tell the other ranks what to do, see `harness.rollouts.team.Block`.
            progress: told how many problems are done, whenever that has changed.

        Raises:
            InputError: the rows on disk were drawn for other problems or otherwise than they would be now.
        """
        start = self._position
        rollouts = self._stored(problems[: max(len(self._lines) - start, 0)], sampling)
        self._position = start + len(problems)
        progress(len(rollouts))
        if rest := problems[len(rollouts) :]:
            self._flush()
            asked = Block(self.path.name, kind, iteration, sampling, (), width)
            made = self._made(rest, asked, draw, lambda done: progress(len(rollouts) + done))
            with AppendLog(self.path) as file:
                file.extend(made)
            self._remove_parts()
            rollouts += made
        self._merged |= {(problem.id, sampling) for problem in problems}
        return rollouts

    def _made(
        self, problems: Sequence[Problem], asked: Block, draw: Draw, progress: Callable[[int], None]
    ) -> list[Rollout]:
        """Rows that the file does not hold yet, from the files of the ranks and from sampling."""
        by_id = {problem.id: problem for problem in problems}
        found = self._unmerged(by_id, asked.sampling)
        progress(len(found))
        self._made_by.save()
        while missing := tuple(name for name in by_id if name not in found):
            block, known = self._team.announce(replace(asked, problems=missing)), len(found)
            for row in self._team.take_part(block, by_id, self.path, self.provenance.key, draw, self._tokens):
                found[row.problem.id] = row
                progress(known + self._team.finished())
            self._team.wait(lambda done: progress(known + done))  # noqa: B023 - called at once
            if self._team.ranks.size > 1:
                found |= self._unmerged({name: by_id[name] for name in missing if name not in found}, asked.sampling)
        self._team.learn(found.values())
        return [found[name] for name in by_id]

    def _parts(self) -> list[Path]:
        """The files of the ranks that are there, from this start or an earlier one."""
        return sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.part*[0-9]"))

    def _remove_parts(self) -> None:
        for part in self._parts():
            part.unlink()

    def _unmerged(self, wanted: Mapping[str, Problem], sampling: SamplingConfig) -> dict[str, Rollout]:
        """The rows of wanted problems in the files of the ranks, by id, graded again where they have to be."""
        found: dict[str, Rollout] = {}
        stale: list[str] = []
        for part in self._parts():
            for number, data in read_jsonl(part):
                row = to_row(Rollout, data, f"{part}:{number}")
                name = row.problem.id
                if name in found or (name, row.sampling) in self._merged:
                    continue  # sampled twice, or left by a run that was killed between merging and removing
                judged_as_now = self._made_by.check(number, row.provenance, part)
                check_drawn(part, number, {"sampling": row.sampling}, {"sampling": sampling})
                if name not in wanted:
                    continue
                check_problem(part, number, row.problem, wanted[name], self.provenance.asked)
                if not judged_as_now or row.problem != wanted[name]:
                    stale.append(name)
                found[name] = replace(row, problem=wanted[name], provenance=self.provenance.key)
        found |= {row.problem.id: row for row in self._judge([found[name] for name in stale])}
        self._num_judged += len(stale)
        return found

    def _stored(self, problems: Sequence[Problem], sampling: SamplingConfig) -> list[Rollout]:
        """The next rows of the file, graded again where they have to be."""
        start, key = self._position, self.provenance.key
        places = [f"{self.path}:{start + offset + 1}" for offset in range(len(problems))]
        rows = [
            to_row(Rollout, parse_line(self._line(start + offset), place), place) for offset, place in enumerate(places)
        ]
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
            self._replaced[start + offset] = sealed_line(row)
        self._changed |= bool(stale)
        self._num_judged += len(stale)
        return rows

    def _line(self, number: int) -> bytes:
        return self._replaced.get(number) or self._lines[number]

    def _flush(self) -> None:
        """Write the file anew if its lines have changed."""
        if self._changed:
            self._made_by.save()
            write_lines(self.path, map(self._line, range(len(self._lines))))
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
