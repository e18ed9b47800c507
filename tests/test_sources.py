"""The same rows from every kind of file, and what is said of files that cannot be read."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.sources import BLOCK, content_hash, find_source, read_source, splits_of

ROWS = [{"prompt": f"{i} + 1 =\n", "response": f'{i + 1}, "quoted"\nünd [{i}]'} for i in range(2300)]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_json(path, rows):
    path.write_text(json.dumps(rows, indent=1))
    return path


def write_parquet(path, rows):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def save_dataset(path, rows):
    from datasets import Dataset

    Dataset.from_list(rows).save_to_disk(str(path))
    return path


def save_splits(path, rows):
    from datasets import Dataset, DatasetDict

    DatasetDict(train=Dataset.from_list(rows), test=Dataset.from_list(rows[:1])).save_to_disk(str(path))
    return path


def write_folder(path, rows):
    (path / "data").mkdir(parents=True)
    (path / "README.md").write_text("# rows\n")
    (path / ".cache.jsonl").write_text("not json")
    write_parquet(path / "data/train-00000-of-00002.parquet", rows[:1500])
    write_parquet(path / "data/train-00001-of-00002.parquet", rows[1500:])
    write_jsonl(path / "data/test.jsonl", rows[:1])
    return path


def write_zipped(path, rows):
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


SHAPES = {
    "rows.jsonl": write_jsonl,
    "rows.jsonl.gz": write_zipped,
    "rows.json": write_json,
    "lines.json": write_jsonl,
    "rows.parquet": write_parquet,
    "rows.csv": write_csv,
    "rows.tsv": write_csv,
    "saved": save_dataset,
    "splits": save_splits,
    "folder": write_folder,
}
"""Name of a file or folder -> what writes rows to it."""


@pytest.mark.parametrize("name", SHAPES)
def test_rows_are_the_same_from_every_kind_of_file(tmp_path, name):
    path = SHAPES[name](tmp_path / name, ROWS)
    assert [row for _, row in read_source(find_source(path))] == ROWS


def test_messages_are_the_same_from_tables(tmp_path):
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}
    rows = [{"messages": [{"role": "user", "content": "1"}, call]}, {"messages": [{"role": "user", "content": "2"}]}]
    for name in ("rows.parquet", "saved"):
        path = SHAPES[name](tmp_path / name, rows)
        assert [row for _, row in read_source(find_source(path))] == rows


def test_places_are_files_with_lines_or_rows(tmp_path):
    lines = write_jsonl(tmp_path / "a.jsonl", ROWS[:2])
    table = write_parquet(tmp_path / "b.parquet", ROWS)
    assert [place for place, _ in read_source(find_source(lines))] == [f"{lines}:1", f"{lines}:2"]
    assert [place for place, _ in read_source(find_source(table))][1500] == f"{table}: row 1501"


def test_a_json_document_longer_than_a_block_is_read_in_pieces(tmp_path):
    rows = [{"text": "x" * (BLOCK // 3) + str(i)} for i in range(7)]
    assert [row for _, row in read_source(find_source(write_json(tmp_path / "a.json", rows)))] == rows


def test_columns_limit_and_split_are_applied(tmp_path):
    path = save_splits(tmp_path / "splits", [{"q": "1", "a": "2", "prompt": "no"}] * 3)
    given = {"path": str(path), "columns": {"prompt": "q", "response": "a"}, "limit": 2}
    assert [row for _, row in read_source(find_source(given))] == [{"prompt": "1", "response": "2"}] * 2
    hidden = {"path": str(path), "split": "test", "columns": {"a": None}}
    assert [row for _, row in read_source(find_source(hidden))] == [{"q": "1", "prompt": "no"}]
    assert splits_of(path) == ["train", "test"]
    assert splits_of(write_folder(tmp_path / "folder", ROWS)) == ["test", "train"]
    assert splits_of(save_dataset(tmp_path / "saved", ROWS)) == []


def test_the_hash_is_of_the_content_and_not_of_the_name(tmp_path):
    first, second = write_jsonl(tmp_path / "a.jsonl", ROWS), write_jsonl(tmp_path / "b.jsonl", ROWS)
    assert content_hash([find_source(first)]) == content_hash([find_source(second)])
    hashes = {
        content_hash([find_source({"path": str(first), **options})])
        for options in ({}, {"limit": 3}, {"columns": {"prompt": "response"}}, {"columns": {"response": None}})
    }
    assert len(hashes) == 4
    second.write_text(second.read_text() + "\n")
    assert content_hash([find_source(second)]) not in hashes


BAD_FILES = {
    "text.txt": (b"1\n", r"text\.txt: of an unknown kind; name it by what it holds \(\.jsonl"),
    "list.jsonl": (b'[{"prompt": "1"}]', r"list\.jsonl:1: a JSON list, .* name the file \.json"),
    "numbers.jsonl": (b'{"a": 1}\n2\n', r"numbers\.jsonl:2: expected a JSON object, found int"),
    "latin.jsonl": ('{"a": "é"}'.encode("latin-1"), r"latin\.jsonl:1: not UTF-8 text"),
    "cut.jsonl.gz": (gzip.compress(b'{"a": 1}\n' * 99)[:-9], r"cut\.jsonl\.gz: cannot be read"),
    "open.json": (b'[{"a": 1}, {"a": 2}', r"open\.json: row 3: not valid JSON \(cut short\)"),
    "half.json": (b'[{"a": 1}, {"a": ', r"half\.json: row 2: not valid JSON \(Expecting value at character 7"),
    "numbers.json": (b"[1, 2]", r"numbers\.json: row 1: expected a JSON object, found int"),
    "latin.json": ('[{"a": "é"}]'.encode("latin-1"), r"latin\.json: not UTF-8 text"),
    "wide.csv": (b"a,b\n1,2\n1,2,3\n", r"wide\.csv: row 2: 3 cells for 2 columns \(a, b\)"),
    "twice.csv": (b"a,a\n1,2\n", r"twice\.csv: row 0: two columns have one name"),
    "quote.csv": (b'a,b\n"1,2\n', r"quote\.csv: cannot be read \(unexpected end of data\)"),
    "latin.csv": ("a\né\n".encode("latin-1"), r"latin\.csv: not UTF-8 text"),
    "fake.parquet": (b"PAR1 is not enough", r"fake\.parquet: cannot be read \("),
    "fake.arrow": (b"ARROW1 is not enough", r"fake\.arrow: cannot be read \("),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_cannot_be_read_are_named_with_the_row(tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_source(find_source(tmp_path / name)))


BAD_SOURCES = [
    ({"path": "none.parquet"}, r"none\.parquet: no such file; give the path of an existing \.parquet file"),
    ({"path": "none"}, r"none: no such file or folder; give the path"),
    ({"path": "rows.jsonl", "splits": "train"}, r"source rows\.jsonl: unknown key 'splits'; did you mean 'split'\?"),
    ({"split": "train"}, r"path is missing"),
    ({"path": "rows.jsonl", "limit": 0}, r"source rows\.jsonl: limit must be at least 1 or null, found 0"),
    ({"path": "rows.jsonl", "limit": "few"}, r"source rows\.jsonl: 'limit': expected NoneType or int, found 'few'"),
    ({"path": "rows.jsonl", "weight": -1}, r"source rows\.jsonl: weight must be above 0 or null, found -1"),
    ({"path": "rows.jsonl", "columns": ["prompt"]}, r"columns is \['prompt'\]; give the column of each name"),
    ({"path": "rows.jsonl", "columns": {"prompt": 3}}, r"columns is \{'prompt': 3\}; give the column"),
    ({"path": "rows.jsonl", "columns": {"prompt": "q"}}, r"rows\.jsonl:1: columns takes 'prompt' from 'q', which is m"),
    ({"path": "rows.jsonl", "split": "train"}, r"rows\.jsonl: is a file and has no split 'train'; leave split out"),
    ({"path": "empty"}, r"empty: holds no file of rows \(\.jsonl"),
    ({"path": "folder", "split": "dev"}, r"folder: has no split 'dev', but test, train; name one of them by split"),
    ({"path": "plain", "split": "test"}, r"plain: has no split 'test', and no others; leave split out"),
    ({"path": "saved", "split": "test"}, r"saved: has no split 'test'; it holds no splits"),
]


def write_sources():
    """What the sources name, in the current folder."""
    write_jsonl(Path("rows.jsonl"), ROWS[:2])
    write_folder(Path("folder"), ROWS[:2])
    save_dataset(Path("saved"), ROWS[:2])
    Path("empty").mkdir()
    Path("plain").mkdir()
    write_jsonl(Path("plain/rows.jsonl"), ROWS[:2])


@pytest.mark.parametrize(("given", "message"), BAD_SOURCES)
def test_sources_that_are_not_there_are_named_with_a_remedy(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    write_sources()
    with pytest.raises(InputError, match=message):
        list(read_source(find_source(given)))
