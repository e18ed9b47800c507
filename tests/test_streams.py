"""Sequences that hold no items give the same ones as lists, and blocks come back as they were written."""

import gc
import weakref

import pytest

from harness.errors import InputError
from harness.streams import Lazy, Spool, joined


class Item:
    def __init__(self, number):
        self.number = number


def test_a_lazy_sequence_is_read_as_a_list_is_and_holds_nothing_but_the_last_item():
    made = []

    def make(number):
        made.append(number)
        return Item(number)

    items = Lazy(make, range(10, 20))
    assert [item.number for item in items] == [*range(10, 20)]
    assert (len(items), items[0].number, items[-1].number) == (10, 10, 19)
    assert [item.number for item in items[2:8][1::2]] == [13, 15, 17]
    assert [item.number for item in reversed(items[:2])] == [11, 10]
    with pytest.raises(IndexError):
        items[10]
    made.clear()
    assert items[4] is items[4]
    assert made == [14]
    gone = weakref.ref(items[4])
    assert items[5].number == 15
    gc.collect()
    assert gone() is None


def test_an_error_of_what_makes_an_item_does_not_end_the_sequence_silently():
    items = Lazy([1, 2].__getitem__, range(3))
    with pytest.raises(IndexError):
        list(items)


def test_joined_sequences_come_one_after_the_other():
    both = joined([[1, 2], Lazy(lambda number: number * 2, [5, 7]), ()])
    assert (list(both), len(both), both[2], list(both[1:3])) == ([1, 2, 10, 14], 4, 10, [2, 10])
    assert list(joined([])) == []


def test_blocks_come_back_in_any_order_and_leave_no_file(tmp_path):
    spool = Spool(tmp_path)
    blocks = [b"a\n" * 3, b"", bytes(range(256))]
    assert [spool.append(block) for block in blocks] == [0, 1, 2]
    assert [spool[i] for i in (2, 0, 1)] == [blocks[i] for i in (2, 0, 1)]
    assert spool.append(b"x") == 3
    assert (spool[3], spool[2]) == (b"x", blocks[2])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="none: cannot be written"):
        Spool(tmp_path / "none")
