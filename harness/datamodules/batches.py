"""Which rows make which batch: seeded, bucketed by length, sharded by rank, resumable in the middle of an epoch.

The unit of planning is the optimizer step. Which rows share a step depends on the seed, the epoch and the number of
rows per step alone; within a step the rows are sorted by length and dealt to its micro-batches and ranks. So one batch
of 8 rows, 8 accumulated batches of one row, or 2 ranks with 4 rows train alike. And because the plan knows all rows,
each batch carries the denominator of its whole step: token-normalised losses are exact without communication.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from harness.errors import InputError


@dataclass(frozen=True)
class Item:
    """What a batch is made of: one row, or several rows packed into one sequence."""

    rows: tuple[int, ...]
    length: int
    """Tokens when laid out in a batch."""
    denominator: float
    """What the item adds to the denominator of its step: weighted supervised tokens, or weighted pairs."""


class Items(Sequence[Item]):
    """Items in columns: 16 bytes each, and 16 more for those that hold several rows.

    Args:
        lengths: (I,) int, tokens of each.
        denominators: (I,) float.
        groups: the rows of each; the row of its own number if not given.
        sources: (I,) int, the source that each comes from; all from one if not given.
        weights: of each source in a mixture; every item is taken once if not given.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        denominators: np.ndarray,
        groups: Sequence[tuple[int, ...]] | None = None,
        sources: np.ndarray | None = None,
        weights: Sequence[float] = (),
    ) -> None:
        self.lengths, self.denominators = np.asarray(lengths), np.asarray(denominators, dtype=np.float64)
        self.sources = np.zeros(len(self.lengths), np.int64) if sources is None else np.asarray(sources)
        self.weights = tuple(weights)
        self._rows: np.ndarray | None = None
        if groups is not None:
            self._ends = np.cumsum([0, *map(len, groups)])
            self._rows = np.fromiter((row for group in groups for row in group), np.int64, int(self._ends[-1]))

    @classmethod
    def of(cls, items: Sequence[Item]) -> Items:
        """The same items in columns."""
        if isinstance(items, cls):
            return items
        return cls(
            np.array([item.length for item in items], np.int64),
            np.array([item.denominator for item in items], np.float64),
            [item.rows for item in items],
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return Item(self.rows(index), int(self.lengths[index]), float(self.denominators[index]))

    def rows(self, index: int) -> tuple[int, ...]:
        """The rows of an item."""
        if self._rows is None:
            return (int(index),)
        return tuple(self._rows[self._ends[index] : self._ends[index + 1]].tolist())


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
    step_items: tuple[int, ...] = ()
    """Indices of the items of the whole optimizer step."""


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


class Plan(Sequence[Batch]):
    """The micro-batches of one rank for one epoch; each is made when it is asked for.

    Args:
        items: all items.
        layout: batch size, accumulation and ranks.
        steps: (S, step size) the items of each full optimizer step, longest first.
        rest: those of an incomplete last step.
        limit: most micro-batches; a step cut short has the denominator of what is left of it.
    """

    def __init__(self, items: Items, layout: Layout, steps: np.ndarray, rest: np.ndarray, limit: int | None) -> None:
        self._items, self._layout, self._steps, self._rest = items, layout, steps, rest
        num_micro = -(-len(rest) // (layout.batch_size * layout.world_size))
        self._num_batches = len(steps) * layout.accumulate + num_micro
        if limit is not None:
            self._num_batches = min(self._num_batches, limit)
        self._step: tuple[int, list[np.ndarray], float, int] = (-1, [], 0.0, 0)

    def __len__(self) -> int:
        return self._num_batches

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        number, micro = divmod(index % len(self), self._layout.accumulate)
        if number != self._step[0]:
            self._step = (number, *self._dealt(number))
        _, cells, denominator, tokens = self._step
        world_size, rank = self._layout.world_size, self._layout.rank
        items = tuple(cells[micro * world_size + rank].tolist())
        members = tuple(np.concatenate(cells).tolist())
        return Batch(items, denominator, tokens, (micro + 1) * world_size == len(cells), members)

    def _dealt(self, number: int) -> tuple[list[np.ndarray], float, int]:
        """A step's items dealt to micro-batches and, within them, ranks; the step's denominator and tokens."""
        layout = self._layout
        step = self._steps[number] if number < len(self._steps) else self._rest
        num_micro = -(-len(step) // (layout.batch_size * layout.world_size))
        left = self._num_batches - number * layout.accumulate
        cells = np.array_split(step, num_micro * layout.world_size)[: left * layout.world_size]
        members = np.concatenate(cells)
        return cells, sum(self._items.denominators[members].tolist()), int(self._items.lengths[members].sum())

    def fingerprint(self) -> int:
        """Hash of which items make which batches on all ranks, and of their sizes."""
        layout = self._layout
        digest = hashlib.sha256(repr([layout.batch_size, layout.accumulate, layout.world_size, len(self)]).encode())
        for order in (self._steps.ravel(), self._rest):
            for values in (order, self._items.lengths[order], self._items.denominators[order]):
                digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
        return int.from_bytes(digest.digest()[:8], "big")


def plan_epoch(
    items: Sequence[Item],
    layout: Layout,
    *,
    seed: int,
    epoch: int,
    num_batches: int | None = None,
    limit: int | None = None,
) -> Plan:
    """Plan the micro-batches of one rank for one epoch.

    Args:
        items: all items, the same on every rank.
        layout: batch size, accumulation and ranks.
        seed: with `epoch`, decides the order.
        epoch: from 0.
        num_batches: micro-batches per rank; the data are cut, or repeated in freshly shuffled passes, to that many.
            None takes every item once, or, of a mixture, as many items as there are.
        limit: stop after so many micro-batches; a step cut short has the denominator of what is left of it.
    """
    columns = Items.of(items)
    wanted = None if num_batches is None else num_batches * layout.batch_size * layout.world_size
    if columns.weights:
        order = _mixed_order(columns, seed, epoch, len(columns) if wanted is None else wanted)
    else:
        order = _item_order(len(columns), seed, epoch, wanted)
    size = layout.step_size
    num_full = len(order) // size * size
    order = np.concatenate(
        [
            _by_length(order[start : min(start + MEGABATCH * size, num_full)], columns)
            for start in range(0, num_full, MEGABATCH * size)
        ]
        + [_by_length(order[num_full:], columns)]
    )
    steps = order[:num_full].reshape(-1, size)
    steps = steps[np.random.default_rng([seed, epoch, 1]).permutation(len(steps))]
    return Plan(columns, layout, steps, order[num_full:], limit)


def _by_length(order: np.ndarray, items: Items) -> np.ndarray:
    """Longest first, those of one length as they were."""
    return order[np.argsort(-items.lengths[order], kind="stable")]


def _item_order(num_items: int, seed: int, epoch: int, wanted: int | None) -> np.ndarray:
    """Shuffled indices of the items to take, in as many passes as needed."""
    size = num_items if wanted is None else wanted
    passes = [
        np.random.default_rng([seed, epoch, 0, number]).permutation(num_items)
        for number in range(max(1, -(-size // max(1, num_items))))
    ]
    return np.concatenate(passes)[:size]


def _mixed_order(items: Items, seed: int, epoch: int, size: int) -> np.ndarray:
    """Shuffled indices of `size` items, of which each source gives its share.

    A source's items come in reshuffled passes that go on from epoch to epoch: a large source is seen in parts, a small
    one several times.
    """
    total = sum(items.weights)
    ends = [round(size * sum(items.weights[: number + 1]) / total) for number in range(len(items.weights))]
    taken = []
    for source, (start, end) in enumerate(itertools.pairwise([0, *ends])):
        members = np.flatnonzero(items.sources == source)
        count = end - start
        if not count:
            continue
        first, last = epoch * count // len(members), ((epoch + 1) * count - 1) // len(members)
        passes = [
            members[np.random.default_rng([seed, source, 3, number]).permutation(len(members))]
            for number in range(first, last + 1)
        ]
        offset = epoch * count - first * len(members)
        taken.append(np.concatenate(passes)[offset : offset + count])
    order = np.concatenate(taken)
    return order[np.random.default_rng([seed, epoch, 0, 0]).permutation(len(order))]


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
        plan: Callable[[int], Plan],
        collate: Callable[[Batch], dict[str, Any]],
        *,
        epoch: int = 0,
        num_workers: int = 0,
    ) -> None:
        self.plan, self._collate = plan, collate
        self._num_workers = num_workers
        self._epoch = epoch
        self._batches: Plan | None = None
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

    def _planned(self) -> Plan:
        if self._batches is None:
            self._batches = self.plan(self._epoch)
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
            _Collated(batches, start, self._collate),
            batch_size=None,
            shuffle=False,
            num_workers=self._num_workers,
            pin_memory=torch.cuda.is_available(),  # so that copies to the card do not wait for the step before
        )
        for batch in loader:
            self._num_done += 1
            yield batch

    def _fingerprint(self) -> int:
        """The same on every rank, since only the first rank's state is kept."""
        return self._planned().fingerprint()

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self._epoch, "num_done": self._num_done, "plan": self._fingerprint()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.set_epoch(state["epoch"])
        self._start = self._num_done = state["num_done"]
        self._expected = state["plan"]


class _Collated(Dataset):
    def __init__(self, batches: Plan, start: int, collate: Callable[[Batch], dict[str, Any]]) -> None:
        self._batches, self._start, self._collate = batches, start, collate

    def __len__(self) -> int:
        return len(self._batches) - self._start

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._collate(self._batches[self._start + index])
