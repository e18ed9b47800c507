"""Which rows make which batch: seeded, bucketed by length, sharded by rank, resumable in the middle of an epoch.

The unit of planning is the optimizer step. Which rows share a step depends on the seed, the epoch and the number of
rows per step alone; within a step the rows are sorted by length and dealt to its micro-batches and ranks. So one batch
of 8 rows, 8 accumulated batches of one row, or 2 ranks with 4 rows train alike. And because the plan knows all rows,
each batch carries the denominator of its whole step: token-normalised losses are exact without communication.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from harness.errors import InputError
from harness.store import stable_hash


@dataclass(frozen=True)
class Item:
    """What a batch is made of: one row, or several rows packed into one sequence."""

    rows: tuple[int, ...]
    length: int
    """Tokens when laid out in a batch."""
    denominator: float
    """What the item adds to the denominator of its step: weighted supervised tokens, or weighted pairs."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch of one rank."""

    items: tuple[int, ...]
    """Indices of items; none when the rank only keeps step with the others."""
    step_denominator: float
    """Sum of denominators over all micro-batches and ranks of the optimizer step."""
    step_tokens: int
    """Tokens, without padding, of the whole optimizer step."""
    ends_step: bool
    """Whether the optimizer steps after it."""


@dataclass(frozen=True)
class Layout:
    """How rows are spread over micro-batches and ranks."""

    batch_size: int
    """Items per micro-batch and rank."""
    accumulate: int = 1
    """Micro-batches per optimizer step."""
    world_size: int = 1
    rank: int = 0

    @property
    def step_size(self) -> int:
        return self.batch_size * self.accumulate * self.world_size


MEGABATCH = 50
"""Optimizer steps among which rows are sorted by length: little padding, and batches of all lengths mixed."""


def plan_epoch(
    items: Sequence[Item],
    layout: Layout,
    *,
    seed: int,
    epoch: int,
    num_batches: int | None = None,
    limit: int | None = None,
) -> list[Batch]:
    """Plan the micro-batches of one rank for one epoch.

    Args:
        items: all items, the same on every rank.
        layout: batch size, accumulation and ranks.
        seed: with `epoch`, decides the order.
        epoch: from 0.
        num_batches: micro-batches per rank; the data are cut, or repeated in freshly shuffled passes, to that many.
            None takes every item once.
        limit: stop after so many micro-batches; a step cut short has the denominator of what is left of it.
    """
    order = _item_order(len(items), layout, seed, epoch, num_batches)
    batches: list[list[tuple[int, ...]]] = []
    for step in _bucketed_steps(order, items, layout.step_size, np.random.default_rng([seed, epoch, 1])):
        batches += _deal(step, layout)
    if limit is not None:
        batches = batches[:limit]
    planned = []
    for start in range(0, len(batches), layout.accumulate):
        window = batches[start : start + layout.accumulate]
        members = [items[i] for ranks in window for rank_items in ranks for i in rank_items]
        denominator, tokens = sum(m.denominator for m in members), sum(m.length for m in members)
        for number, ranks in enumerate(window, 1):
            planned.append(Batch(ranks[layout.rank], denominator, tokens, ends_step=number == len(window)))
    return planned


def _item_order(num_items: int, layout: Layout, seed: int, epoch: int, num_batches: int | None) -> list[int]:
    """Shuffled indices of the items to take, in as many passes as needed."""
    if num_batches is None:
        return np.random.default_rng([seed, epoch, 0, 0]).permutation(num_items).tolist()
    wanted = num_batches * layout.batch_size * layout.world_size
    order: list[int] = []
    while len(order) < wanted:
        number = len(order) // num_items
        order += np.random.default_rng([seed, epoch, 0, number]).permutation(num_items).tolist()
    return order[:wanted]


def _bucketed_steps(
    order: list[int], items: Sequence[Item], step_size: int, generator: np.random.Generator
) -> Iterator[list[int]]:
    """Cut the order into steps of items of similar length; steps come in random order, an incomplete one last."""
    num_full = len(order) // step_size * step_size
    steps: list[list[int]] = []
    for start in range(0, num_full, MEGABATCH * step_size):
        chunk = order[start : min(start + MEGABATCH * step_size, num_full)]
        chunk = sorted(chunk, key=lambda i: items[i].length, reverse=True)
        steps += [chunk[a : a + step_size] for a in range(0, len(chunk), step_size)]
    for index in generator.permutation(len(steps)):
        yield steps[index]
    if len(order) > num_full:
        yield sorted(order[num_full:], key=lambda i: items[i].length, reverse=True)


def _deal(step: list[int], layout: Layout) -> list[list[tuple[int, ...]]]:
    """Deal a step's items, longest first, to micro-batches and ranks: result[micro_batch][rank]."""
    num_micro = -(-len(step) // (layout.batch_size * layout.world_size))
    parts = np.array_split(np.asarray(step), num_micro * layout.world_size)
    cells = [tuple(int(i) for i in part) for part in parts]
    return [cells[a : a + layout.world_size] for a in range(0, len(cells), layout.world_size)]


def pack(lengths: Sequence[int], capacity: int, seed: int) -> list[tuple[int, ...]]:
    """Put rows into sequences of at most `capacity` tokens: best fit, longest first, within chunks of shuffled rows."""
    order = np.random.default_rng([seed, 2]).permutation(len(lengths)).tolist()
    bins: list[tuple[int, ...]] = []
    for start in range(0, len(order), 4096):
        bins += _best_fit(sorted(order[start : start + 4096], key=lambda i: -lengths[i]), lengths, capacity)
    return bins


def _best_fit(rows: list[int], lengths: Sequence[int], capacity: int) -> list[tuple[int, ...]]:
    contents: list[list[int]] = []
    open_bins: list[tuple[int, int]] = []  # (space left, bin), sorted
    for row in rows:
        at = bisect.bisect_left(open_bins, (lengths[row], -1))
        if at < len(open_bins):
            space, number = open_bins.pop(at)
        else:
            space, number = capacity, len(contents)
            contents.append([])
        contents[number].append(row)
        bisect.insort(open_bins, (space - lengths[row], number))
    return [tuple(content) for content in contents]


class BatchLoader:
    """Iterates over one rank's batches of an epoch; saves and restores its place within the epoch.

    Not a torch `DataLoader`, so Lightning leaves it as it is (no sampler is replaced), and Lightning keeps what
    `state_dict` returns in its checkpoints.
    """

    def __init__(
        self,
        plan: Callable[[int], list[Batch]],
        collate: Callable[[Batch], dict[str, Any]],
        *,
        epoch: int = 0,
        num_workers: int = 0,
    ) -> None:
        self._plan, self._collate = plan, collate
        self._num_workers = num_workers
        self._epoch = epoch
        self._batches: list[Batch] | None = None
        self._start = 0
        self._num_done = 0
        self._expected: int | None = None

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Where Lightning looks for `set_epoch`."""
        return SimpleNamespace(sampler=self)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; a place saved in another epoch is forgotten."""
        if epoch != self._epoch:
            self._epoch, self._batches, self._start, self._num_done = epoch, None, 0, 0

    def _planned(self) -> list[Batch]:
        if self._batches is None:
            self._batches = self._plan(self._epoch)
        return self._batches

    def __len__(self) -> int:
        return len(self._planned())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # A generator, so all below runs at the first `next`: Lightning sets the epoch after it has called `iter`.
        batches = self._planned()
        start, self._start = self._start, 0
        if 0 < start < len(batches) and self._expected not in (None, self._fingerprint()):
            raise InputError(
                "the checkpoint was saved in the middle of an epoch with other data, batch size or number of devices; "
                "resume with the same, or from a checkpoint at the end of an epoch."
            )
        self._num_done = start
        loader: DataLoader = DataLoader(
            _Collated(batches[start:], self._collate), batch_size=None, shuffle=False, num_workers=self._num_workers
        )
        for batch in loader:
            self._num_done += 1
            yield batch

    def _fingerprint(self) -> int:
        """The same on every rank, since only the first rank's state is kept."""
        return stable_hash([[b.step_denominator, b.step_tokens, b.ends_step] for b in self._planned()])

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self._epoch, "num_done": self._num_done, "plan": self._fingerprint()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.set_epoch(state["epoch"])
        self._start = self._num_done = state["num_done"]
        self._expected = state["plan"]


class _Collated(Dataset):
    def __init__(self, batches: Sequence[Batch], collate: Callable[[Batch], dict[str, Any]]) -> None:
        self._batches, self._collate = batches, collate

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._collate(self._batches[index])
