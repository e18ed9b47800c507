"""Rows on disk that a killed command left: those that are what is asked now are read back, the rest is made."""

from __future__ import annotations

import glob
import itertools
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import InputError
from harness.lines import Lines
from harness.provenance import Provenance, ProvenanceFile, describe_differences, differences, identity
from harness.rollouts.team import Block, Draw, Kind, Team, part_file
from harness.store import AppendLog, parse_line, read_jsonl, sealed_line, to_row, write_lines, write_rows
from harness.streams import Lazy, Spool
from harness.types import Problem, Rollout, SamplingConfig

log = logging.getLogger(__name__)

Row = TypeVar("Row")
Key = TypeVar("Key", bound=Hashable)
GROUP = 64
"""Rows that are graded again at a time."""
Judge = Callable[[Sequence[Rollout]], Iterable[Rollout]]
"""Grades and scores rollouts again, in their order; draws nothing."""


def stored_rollouts(path: str | Path) -> Sequence[Rollout]:
    """The rollouts of a file, each read whenever it is asked for; memory holds where they stand.

    Raises:
        InputError: the file cannot be read, or, when one is asked for, a row is damaged or no rollout.
    """
    lines = Lines(path)
    numbers = [number for number, line in enumerate(lines.scan()) if line.strip()]
    return Lazy(lambda number: _rollout(lines[number], lines.path, number), numbers)


def _rollout(line: bytes, path: Path, number: int) -> Rollout:
    place = f"{path}:{number + 1}"
    return to_row(Rollout, parse_line(line, place), place)


class RolloutLog:
    """A JSONL file of rollouts that a killed run left and the same run, started again, continues.

    The caller asks for the same blocks of problems in the same order as before. What the file holds is not made again.
    The rows of the block under way lie, in the order in which they finished, in one file beside it for each rank that
    samples (`part_file`); once the block is complete they are appended to the file in the order of the problems. So a
    killed run loses only the problems it had in flight, the file does not tell who sampled what, and a run may go on
    with another number of ranks.

    Memory holds where rows stand; they are read when they are asked for, also after the log is closed.

    Rows of which only verdicts and rewards would be others now are graded again, and replaced in the file at its next
    change or at the end. Use as a context manager.

    Args:
        path: the file; it need not exist.
        provenance: what draws and judges its rows now, the sampling apart, which each row holds.
        judge: grades rows again, some at a time.
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
        self._lines = _scanned(self.path)
        self._spool = Spool(self.path.parent)
        """Lines of rows that were graded again."""
        self._replaced: dict[int, int] = {}
        """By number of a line in the file that of the line in `_spool` which takes its place."""
        self._made_by = ProvenanceFile(self.path, provenance)
        self._position = 0
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

    @property
    def rows(self) -> Sequence[Rollout]:
        """The scored rollouts of all blocks so far."""
        return Lazy(self._row, range(self._position))

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
    ) -> Sequence[Rollout]:
        """The scored rollouts of `problems`, in their order.

        Args:
            draw: samples problems on this rank.
            kind, iteration, width: tell the other ranks what to do, see `harness.rollouts.team.Block`.
            progress: told how many problems are done, whenever that has changed.

        Raises:
            InputError: the rows on disk were drawn for other problems or otherwise than they would be now.
        """
        start = self._position
        known = problems[: max(len(self._lines) - start, 0)]
        self._check(known, sampling)
        self._position = start + len(problems)
        progress(len(known))
        if rest := problems[len(known) :]:
            self._flush()
            asked = Block(self.path.name, kind, iteration, sampling, (), width)
            made = self._made(rest, asked, draw, lambda done: progress(len(known) + done))
            with AppendLog(self.path) as file:
                file.extend_lines(made)
            self._remove_parts()
            for _ in self._lines.scan():
                pass
        self._merged |= {(problem.id, sampling) for problem in problems}
        return self.rows[start:]

    def _made(
        self, problems: Sequence[Problem], asked: Block, draw: Draw, progress: Callable[[int], None]
    ) -> Iterator[bytes]:
        """Lines of rows that the file does not hold yet, from the files of the ranks and from sampling."""
        by_id = {problem.id: problem for problem in problems}
        parts: dict[Path, Lines] = {}
        own = part_file(self.path, self._team.ranks.rank)
        found = self._unmerged(by_id, asked.sampling, parts)
        progress(len(found))
        self._made_by.save()
        while missing := tuple(name for name in by_id if name not in found):
            block, known = self._team.announce(replace(asked, problems=missing)), len(found)
            asked = replace(asked, again=True)
            drawn: list[str] = []
            for row in self._team.take_part(block, by_id, self.path, self.provenance.key, draw, self._tokens):
                self._team.learn([row])
                drawn.append(row.problem.id)
                progress(known + self._team.finished())
            lines = parts.setdefault(own, Lines(own))
            before = len(lines)
            for _ in lines.scan():
                pass
            found |= {name: (lines, before + count) for count, name in enumerate(drawn)}
            self._team.wait(lambda done: progress(known + done))  # noqa: B023 - called at once
            if len(self._team.members) > 1:
                others = {name: by_id[name] for name in missing if name not in found}
                found |= self._unmerged(others, asked.sampling, parts)
        return (lines[number] for lines, number in map(found.__getitem__, by_id))

    def _parts(self) -> list[Path]:
        """The files of the ranks that are there, from this start or an earlier one."""
        return sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.part*[0-9]"))

    def _remove_parts(self) -> None:
        for part in self._parts():
            part.unlink()

    def _unmerged(
        self, wanted: Mapping[str, Problem], sampling: SamplingConfig, parts: dict[Path, Lines]
    ) -> dict[str, tuple[Lines | Spool, int]]:
        """Where the rows of wanted problems stand, by id: in the files of the ranks, or graded again in the spool.

        Args:
            parts: the files with the lines that were looked at; others are added.
        """
        found: dict[str, tuple[Lines | Spool, int]] = {}
        stale: list[str] = []
        for part in self._parts():
            lines = parts.setdefault(part, Lines(part))
            for number, line in enumerate(lines.scan(), len(lines)):
                row = _rollout(line, part, number)
                name = row.problem.id
                if name in found or (name, row.sampling) in self._merged:
                    continue  # sampled twice, or left by a run that was killed between merging and removing
                judged_as_now = self._made_by.check(number + 1, row.provenance, part)
                check_drawn(part, number + 1, {"sampling": row.sampling}, {"sampling": sampling})
                if name not in wanted:
                    continue
                check_problem(part, number + 1, row.problem, wanted[name], self.provenance.asked)
                self._team.learn([row])
                if not judged_as_now or row.problem != wanted[name]:
                    stale.append(name)
                found[name] = lines, number
        rows = ((_rollout(found[name][0][found[name][1]], self.path, 0), wanted[name]) for name in stale)
        return found | {name: (self._spool, number) for name, number in zip(stale, self._graded(rows), strict=True)}

    def _check(self, problems: Sequence[Problem], sampling: SamplingConfig) -> None:
        """Check the next rows of the file, and grade those again that have to be."""
        stale: dict[int, Problem] = {}
        for number, problem in enumerate(problems, self._position):
            row = self._row(number)
            judged_as_now = self._made_by.check(number + 1, row.provenance)
            check_drawn(self.path, number + 1, {"sampling": row.sampling}, {"sampling": sampling})
            check_problem(self.path, number + 1, row.problem, problem, self.provenance.asked)
            if not judged_as_now or row.problem != problem:
                stale[number] = problem
        rows = ((self._row(number), problem) for number, problem in stale.items())
        self._replaced |= zip(stale, self._graded(rows), strict=True)

    def _graded(self, rows: Iterable[tuple[Rollout, Problem]]) -> Iterator[int]:
        """Grade rows again, as those of these problems; their numbers in the spool."""
        asked = (replace(row, problem=problem, provenance=self.provenance.key) for row, problem in rows)
        while group := list(itertools.islice(asked, GROUP)):
            for row in self._judge(group):
                self._num_judged += 1
                yield self._spool.append(sealed_line(row))

    def _row(self, number: int) -> Rollout:
        return _rollout(self._line(number), self.path, number)

    def _line(self, number: int) -> bytes:
        return self._spool[self._replaced[number]] if number in self._replaced else self._lines[number]

    def _flush(self) -> None:
        """Write the file anew if some of its lines were replaced."""
        if self._replaced:
            self._made_by.save()
            write_lines(self.path, map(self._line, range(len(self._lines))))
            self._made_by.save(alone=self._position >= len(self._lines))
            self._lines, self._replaced = _scanned(self.path), {}


def _scanned(path: Path) -> Lines:
    lines = Lines(path)
    for _ in lines.scan():
        pass
    return lines


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
