"""Lines that are read again are those of the file, compressed or not, in whatever order they are taken."""

import gzip
import itertools
import random

import pytest

from harness import lines as module
from harness.errors import InputError
from harness.lines import Lines


@pytest.fixture
def small(monkeypatch):
    """Many places to start from in little text."""
    monkeypatch.setattr(module, "CHUNK", 256)
    monkeypatch.setattr(module, "STRIDE", 1000)


def written(path, count=400):
    rng = random.Random(0)
    rows = [f'{{"n": {i}, "text": "{rng.randbytes(rng.randrange(40)).hex()}"}}\n'.encode() for i in range(count)]
    rows[-1] = rows[-1].rstrip()
    text = b"".join(rows)
    if path.suffix == ".gz":
        half = len(text) // 2  # files of two members, as `cat` makes them
        text = gzip.compress(text[:half]) + gzip.compress(text[half:])
    path.write_bytes(text)
    return rows


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_lines_are_those_of_the_file_in_any_order(tmp_path, small, name):
    rows = written(tmp_path / name)
    lines = Lines(tmp_path / name)
    assert list(lines.scan()) == rows
    assert len(lines) == len(rows)
    assert [lines[i] for i in range(len(rows))] == rows
    order = random.Random(1).sample(range(len(rows)), len(rows))
    assert [lines[i] for i in order] == [rows[i] for i in order]
    (tmp_path / name).unlink()
    assert lines[7] == rows[7]


def test_what_is_kept_of_a_compressed_file_is_spread_over_it(tmp_path, small):
    rows = written(tmp_path / "a.jsonl.gz")
    lines = Lines(tmp_path / "a.jsonl.gz")
    assert sum(map(len, lines.scan())) == sum(map(len, rows))
    starts = [text for text, *_ in lines._points]
    assert len(starts) > 5
    assert all(later - earlier >= 1000 for earlier, later in itertools.pairwise(starts))


def test_a_file_that_is_cut_or_none_is_named(tmp_path, small):
    written(tmp_path / "a.jsonl.gz")
    content = (tmp_path / "a.jsonl.gz").read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(content[: len(content) // 3])
    with pytest.raises(InputError, match=r"cut.jsonl.gz: cannot be read"):
        list(Lines(tmp_path / "cut.jsonl.gz").scan())
    (tmp_path / "other.jsonl.gz").write_bytes(b"no gzip at all")
    with pytest.raises(InputError, match=r"other.jsonl.gz: cannot be read"):
        list(Lines(tmp_path / "other.jsonl.gz").scan())
    with pytest.raises(InputError, match="No such file"):
        Lines(tmp_path / "none.jsonl")
