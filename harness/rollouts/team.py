"""Who samples: this process alone, or the ranks of a run, among whom problems are dealt out one after the other.

A `Block` is a set of problems that are sampled alike into one file. The first rank announces it; every rank then takes
problems of it until none is left, and appends those that are finished to a file of its own. Which problem comes next, a
counter in the store of the ranks says, so whoever has room takes it. Samples depend on the seed and the problem alone:
the rows do not show who drew them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness.ranks import Ranks
from harness.store import AppendLog, from_dict, to_json
from harness.types import Problem, Rollout, SamplingConfig

SLOTS = 256
"""Samples that an engine is taken to draw at a time where its configuration does not say."""
MAX_IN_FLIGHT = 4096
"""Searches at a time of one process that samples alone."""
SILENT_SECONDS = 1800.0
"""Where no rank has got a sample for so long, what those at work had taken is dealt again."""

Kind = Literal["probe", "sample", "hint", "measure"]
Draw = Callable[[Iterable[Problem], int], Iterable[Rollout]]
"""Samples problems, at most so many at a time, and yields what is finished; takes the next problem when it has room."""


@dataclass(frozen=True)
class Block:
    """Problems that are sampled alike into one file."""

    file: str
    """Name of the file of rollouts, in the folder of the iterations."""
    kind: Kind
    """What the samples are for: it says how they are prompted, searched and scored."""
    iteration: int
    sampling: SamplingConfig
    problems: tuple[str, ...]
    """Ids, in the order in which they are dealt."""
    width: int = 1
    """Samples of one problem that are drawn at the same time."""
    again: bool = False
    """Whether these are problems that a rank which has fallen silent had taken."""


@dataclass(frozen=True)
class Effort:
    """What a rank has done for one block, or for several."""

    problems: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: Effort) -> Effort:
        return Effort(self.problems + other.problems, self.tokens + other.tokens, self.seconds + other.seconds)

    def __sub__(self, other: Effort) -> Effort:
        return Effort(self.problems - other.problems, self.tokens - other.tokens, self.seconds - other.seconds)


def part_file(path: Path, rank: int) -> Path:
    """Where a rank writes its rows of a block until they are merged into the file."""
    return path.with_name(f"{path.name}.part{rank}")


class Team:
    """The ranks that sample together; the first of them announces blocks, the others follow.

    Args:
        ranks: default is this process alone.
        slots: samples that an engine draws at a time.
        width: consecutive ranks that hold one engine together, of which the first takes part.
    """

    def __init__(self, ranks: Ranks | None = None, slots: int = SLOTS, width: int = 1) -> None:
        self.ranks, self.slots = ranks or Ranks(), slots
        self.members = range(0, self.ranks.size, width)
        """The ranks that take part."""
        self.efforts = [Effort()] * len(self.members)
        """What every member has done so far, as the first rank knows it."""
        self._number = 0
        """Of the newest block that this rank knows of."""
        self._lengths: dict[str, int] = {}

    @property
    def num_tokens(self) -> int:
        """Tokens that all ranks have sampled so far."""
        return sum(effort.tokens for effort in self.efforts)

    def announce(self, block: Block) -> Block:
        """On the first rank: have all ranks begin a block, the longest problems first as far as lengths are known.

        Returns the block in the order in which it is dealt.
        """
        self._number += 1
        ordered = sorted(block.problems, key=lambda name: -self._lengths.get(name, 0))
        block = replace(block, problems=tuple(ordered))
        self.ranks.set(f"block/{self._number}", to_json(block))
        return block

    def dismiss(self) -> None:
        """On the first rank: let the others leave `blocks`."""
        self._number += 1
        self.ranks.set(f"block/{self._number}", "")

    def blocks(self) -> Iterator[Block]:
        """On the other ranks: the blocks that the first announces, until it dismisses them."""
        while True:
            self._number += 1
            text = self.ranks.wait(lambda: self.ranks.get(f"block/{self._number}"))
            if not text:
                return
            yield from_dict(Block, json.loads(text))

    def take_part(
        self,
        block: Block,
        problems: Mapping[str, Problem],
        path: Path,
        provenance: str,
        draw: Draw,
        tokens: Callable[[], int],
    ) -> Iterator[Rollout]:
        """Sample the problems that this rank is dealt; yield each row once it is in this rank's own file.

        Args:
            block: the newest one.
            problems: at least those of the block, by id.
            path: of the file into which the rows of all ranks will be merged.
            provenance: key that every row gets.
            draw: how problems are sampled.
            tokens: how many were sampled in this process so far.
        """
        started, before, count = time.perf_counter(), tokens(), 0
        self.ranks.progress = tokens
        with AppendLog(part_file(path, self.ranks.rank)) as file:
            for rollout in draw(self._dealt(block, problems), self._window(block)):
                row = replace(rollout, provenance=provenance)
                file.extend([row])
                count += 1
                self.ranks.add(f"finished/{self._number}", 1)
                yield row
        # Closed by now, so that other nodes see all of the file.
        effort = Effort(count, tokens() - before, time.perf_counter() - started)
        self.ranks.set(f"effort/{self._number}/{self.ranks.rank}", to_json(effort))
        self.ranks.add(f"through/{self._number}", 1)

    def _dealt(self, block: Block, problems: Mapping[str, Problem]) -> Iterator[Problem]:
        """What this rank is dealt: its even share of what all can have in flight at the start, so that one that begins
        a moment before the others does not take all the long ones; then whichever problem comes next.
        """
        count, size = len(block.problems), len(self.members)
        begun = 0 if block.again else self._window(block) * size
        for position in range(self.members.index(self.ranks.rank), min(begun, count), size):
            yield problems[block.problems[position]]
        while (position := begun + self.ranks.add(f"next/{self._number}", 1) - 1) < count:
            yield problems[block.problems[position]]

    def _window(self, block: Block) -> int:
        """Problems that this rank may have in flight: what keeps its engine busy, but not more than an even share."""
        if len(self.members) == 1:
            return MAX_IN_FLIGHT
        busy = math.ceil(2 * self.slots / block.width)
        return max(1, min(busy, math.ceil(len(block.problems) / len(self.members))))

    def finished(self) -> int:
        """Problems of the newest block that are finished, on whichever rank."""
        return self.ranks.add(f"finished/{self._number}", 0)

    def wait(self, progress: Callable[[int], None]) -> None:
        """On the first rank: return when all members are through with the newest block, or those at work are silent.

        Args:
            progress: told how many of its problems are finished.
        """
        state: tuple[int, ...] = ()
        since = time.monotonic()

        def look() -> bool | None:
            nonlocal state, since
            progress(self.finished())
            if self.ranks.add(f"through/{self._number}", 0) >= len(self.members):
                return True
            now = tuple(map(self.ranks.progress_of, self.members))
            if now != state:
                state, since = now, time.monotonic()
            return True if time.monotonic() - since > SILENT_SECONDS else None

        self.ranks.wait(look)
        for place, rank in enumerate(self.members):
            if text := self.ranks.get(f"effort/{self._number}/{rank}"):
                self.efforts[place] += from_dict(Effort, json.loads(text))

    def learn(self, rows: Iterable[Rollout]) -> None:
        """Remember how long responses were, to deal the longest first the next time."""
        if len(self.members) > 1:
            for row in rows:
                self._lengths[row.problem.id] = sum(len(scored.response.token_ids) for scored in row.responses)
