"""The plan of an epoch: every row once, the same steps however they are cut, and a place to resume from."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.datamodules.batches import BatchLoader, Item, Layout, pack, plan_epoch
from harness.errors import InputError


def items(lengths):
    return [Item((i,), length, denominator=length / 2) for i, length in enumerate(lengths)]


ROWS = items([3 + (7 * i) % 29 for i in range(101)])


def steps(rows, layout_of_rank, **options):
    """The set of items of each optimizer step, over all ranks."""
    found = []
    for number, layout in enumerate(layout_of_rank):
        plan = plan_epoch(rows, layout, **options)
        groups, group = [], []
        for batch in plan:
            group += batch.items
            if batch.ends_step:
                groups.append(group)
                group = []
        assert not group
        found = [a + b for a, b in zip(found, groups, strict=True)] if number else groups
    return [sorted(group) for group in found]


@given(
    st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3)
)
@settings(max_examples=100, deadline=None)
def test_an_epoch_takes_every_row_once_whatever_the_layout(num_rows, batch_size, accumulate, world_size, seed, epoch):
    rows = items([1 + (5 * i) % 17 for i in range(num_rows)])
    plans = [
        plan_epoch(rows, Layout(batch_size, accumulate, world_size, rank), seed=seed, epoch=epoch)
        for rank in range(world_size)
    ]
    assert len({len(plan) for plan in plans}) == 1
    assert sorted(i for plan in plans for batch in plan for i in batch.items) == list(range(num_rows))
    assert all(len(batch.items) <= batch_size for plan in plans for batch in plan)
    # Lightning steps after every `accumulate` batches and after the last.
    for plan in plans:
        ends = [n for n, batch in enumerate(plan, 1) if batch.ends_step]
        assert ends == [n for n in range(1, len(plan) + 1) if n % accumulate == 0 or n == len(plan)]


def test_a_step_holds_the_same_rows_however_it_is_cut():
    one = steps(ROWS, [Layout(8)], seed=3, epoch=1)
    assert steps(ROWS, [Layout(1, accumulate=8)], seed=3, epoch=1) == one
    assert steps(ROWS, [Layout(2, 2, 2, rank) for rank in range(2)], seed=3, epoch=1) == one


def test_each_batch_carries_the_denominator_and_tokens_of_its_whole_step():
    plan = plan_epoch(ROWS, Layout(2, 2, 2, 1), seed=0, epoch=0)
    rows_of_step = iter(steps(ROWS, [Layout(2, 2, 2, rank) for rank in range(2)], seed=0, epoch=0))
    members = next(rows_of_step)
    for batch in plan:
        assert batch.step_tokens == sum(ROWS[i].length for i in members)
        assert batch.step_denominator == pytest.approx(sum(ROWS[i].denominator for i in members))
        if batch.ends_step:
            members = next(rows_of_step, None)


def test_a_limit_renormalises_the_step_it_cuts():
    plan = plan_epoch(ROWS, Layout(2, accumulate=4), seed=0, epoch=0, limit=6)
    assert [batch.ends_step for batch in plan] == [False, False, False, True, False, True]
    assert plan[-1].step_tokens == sum(ROWS[i].length for batch in plan[4:] for i in batch.items)


def test_order_depends_on_seed_and_epoch_alone():
    def order(**options):
        return [batch.items for batch in plan_epoch(ROWS, Layout(4), **options)]

    assert order(seed=0, epoch=0) == order(seed=0, epoch=0)
    assert order(seed=0, epoch=0) != order(seed=0, epoch=1)
    assert order(seed=0, epoch=0) != order(seed=1, epoch=0)


@pytest.mark.parametrize("num_batches", [5, 26, 80])
def test_batches_per_epoch_cuts_or_repeats_the_data_evenly(num_batches):
    plan = plan_epoch(ROWS, Layout(4), seed=0, epoch=0, num_batches=num_batches)
    assert len(plan) == num_batches
    counts = [sum(batch.items.count(i) for batch in plan) for i in range(len(ROWS))]
    assert sum(counts) == 4 * num_batches
    assert max(counts) - min(counts) <= 1


def test_bucketing_leaves_little_padding():
    lengths = [10 + (97 * i) % 400 for i in range(2000)]
    plan = plan_epoch(items(lengths), Layout(8), seed=0, epoch=0)
    padded = sum(len(batch.items) * max(lengths[i] for i in batch.items) for batch in plan)
    assert padded < 1.05 * sum(lengths)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80))
@settings(max_examples=100, deadline=None)
def test_packing_puts_every_row_in_one_bin_that_holds_it(lengths):
    bins = pack(lengths, capacity=50, seed=0)
    assert sorted(i for content in bins for i in content) == list(range(len(lengths)))
    loads = [sum(lengths[i] for i in content) for content in bins]
    assert max(loads) <= 50
    # No two bins of a best-fit packing could be poured together.
    assert all(a + b > 50 for n, a in enumerate(loads) for b in loads[n + 1 :])


def loader(rows=ROWS, epoch=0, num_workers=0):
    def plan(epoch):
        return plan_epoch(rows, Layout(4), seed=0, epoch=epoch)

    return BatchLoader(plan, lambda batch: {"items": batch.items}, epoch=epoch, num_workers=num_workers)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_restored_loader_yields_exactly_the_remaining_batches(num_workers):
    whole = list(loader())
    interrupted = loader(num_workers=num_workers)
    iterator = iter(interrupted)
    seen = [next(iterator) for _ in range(10)]
    state = interrupted.state_dict()
    resumed = loader(num_workers=num_workers)
    resumed.load_state_dict(state)
    assert seen + list(resumed) == whole
    assert list(resumed) == whole, "the next pass is a whole one"


def test_a_new_epoch_forgets_the_restored_place():
    first = loader()
    list(zip(range(10), first, strict=False))
    resumed = loader()
    resumed.load_state_dict(first.state_dict())
    resumed.set_epoch(1)
    assert list(resumed) == list(loader(epoch=1))


def test_resuming_inside_an_epoch_of_other_data_is_refused():
    first = loader()
    list(zip(range(10), first, strict=False))
    other = loader(rows=ROWS[:-1])
    other.load_state_dict(first.state_dict())
    with pytest.raises(InputError, match="other data"):
        next(iter(other))
