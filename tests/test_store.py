import gzip
import hashlib
import json
import os
import struct
import subprocess

import pytest

from harness.errors import InputError
from harness.store import (
    NUM_SHARED,
    AppendLog,
    from_dict,
    read_jsonl,
    read_rows,
    remove_leftovers,
    shared_ints,
    stable_hash,
    to_dict,
    to_json,
    write_json,
    write_rows,
)
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse, SFTExample

ROLLOUT = Rollout(
    Problem("p", "1 + 1", "2", choices=("1", "2")),
    (
        ScoredResponse(Response(("a\n", "b"), "stop", (3, 4), -1.5, (0.5, 1.0)), "2", True, 2.0),
        ScoredResponse(Response(), None, False, 0.0, "no_answer"),
    ),
    SamplingConfig(n=2, stop=("x",)),
    3,
    "abc",
)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_come_back_as_they_were(tmp_path, name):
    write_rows(tmp_path / name, [ROLLOUT, ROLLOUT])
    assert read_rows(tmp_path / name, Rollout) == [ROLLOUT, ROLLOUT]


def test_the_same_rows_give_the_same_compressed_bytes(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_rows(tmp_path / name, [ROLLOUT])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_defaults_are_left_out_and_restored():
    assert to_dict(SFTExample("p", "r")) == {"prompt": "p", "response": "r"}
    assert from_dict(SFTExample, {"prompt": "p", "response": "r", "unknown": 1}) == SFTExample("p", "r")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "p", "response": "r"}\n{"prompt": \n', r"rows.jsonl:2: not valid JSON"),
        ('{"prompt": "p", "response": "r"}\n\n[1]\n', r"rows.jsonl:3: expected a JSON object, found list"),
        ('{"prompt": "p"}\n', r"rows.jsonl:1: missing column 'response'; found \['prompt'\]"),
        (b"\xff\xfe\n", r"rows.jsonl:1: not UTF-8 text"),
    ],
)
def test_errors_name_file_and_line(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_rows(path, SFTExample)


def test_a_missing_and_a_damaged_file_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        list(read_jsonl(tmp_path / "missing.jsonl"))
    damaged = tmp_path / "rows.jsonl.gz"
    damaged.write_bytes(gzip.compress(b'{"a": 1}\n' * 100)[:-12])
    with pytest.raises(InputError, match="cannot be read"):
        list(read_jsonl(damaged))


def test_a_torn_last_line_is_cut_off_and_the_log_goes_on(tmp_path):
    path = tmp_path / "log.jsonl"
    with AppendLog(path) as log:
        log.extend([{"a": 1}])
    with open(path, "a") as file:
        file.write('{"a": 2')
    with AppendLog(path) as log:
        log.extend([{"a": 3}])
    assert [row for _, row in read_jsonl(path)] == [{"a": 1}, {"a": 3}]


@pytest.mark.parametrize("whole", [b"", b'{"a": 1}\n', b'{"a": 1}\n' * 20_000])
@pytest.mark.parametrize("torn", [b"", b"{", b'{"a": "' + b"x" * 200_000])
def test_a_torn_line_is_cut_off_wherever_it_begins(tmp_path, whole, torn):
    path = tmp_path / "log.jsonl"
    path.write_bytes(whole + torn)
    with AppendLog(path):
        pass
    assert path.read_bytes() == whole


def test_a_full_disk_is_one_sentence_and_earlier_content_stays(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "log.jsonl"
    path.symlink_to("/dev/full")
    log = AppendLog.__new__(AppendLog)
    log.path, log._file = path, open(path, "wb")  # noqa: SIM115 - a device cannot be opened for appending and reading
    with pytest.raises(InputError, match=r"log.jsonl: cannot be written \(No space left on device\)"):
        log.extend([{"a": 1}] * 1000)


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"result.json: cannot be written \(No space left on device\)"):
        write_json(path, {"a": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_hashes_do_not_depend_on_the_process_and_tell_rows_apart():
    # SHA-256 of '["a", 1]': its first eight bytes, big endian, without the last bit.
    digest = hashlib.sha256(b'["a", 1]').digest()
    assert stable_hash("a", 1) == int.from_bytes(digest[:8], "big") >> 1
    assert len({stable_hash(seed, f"p{i}", bits=48) for seed in range(30) for i in range(30)}) == 900
    assert stable_hash(ROLLOUT, bits=31) < 2**31


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (f".a.json.{dead.pid}.tmp", f"..hf-step=3.{dead.pid}.new/weights", f".hf.{dead.pid}.old/weights"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    kept = [tmp_path / name for name in (f".b.json.{os.getpid()}.tmp", ".hf-step=3", "c.1.tmp", "rows.jsonl")]
    for path in kept:
        path.write_text("whole")
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_packed_numbers_are_read_back_as_32_bit_floats_and_plain_lists_too():
    response = Response(("a",), token_ids=(1, 2), token_logps=(-0.1, -2.5))
    text = to_json(response)
    assert json.loads(text)["token_logps"] == "zczMvQAAIMA="
    read = from_dict(Response, json.loads(text))
    assert read.token_logps == (struct.unpack("<f", struct.pack("<f", -0.1))[0], -2.5)
    assert to_json(read) == text
    assert from_dict(Response, {"token_logps": [-0.5]}).token_logps == (-0.5,)
    assert "token_logps" not in json.loads(to_json(Response(("a",))))


@pytest.mark.parametrize("text", ["zczMvQ", "zczM", "!"])
def test_damaged_packed_numbers_name_file_and_line(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"token_logps": text}) + "\n")
    with pytest.raises(InputError, match=r"rows.jsonl:1: damaged"):
        read_rows(path, Response)


@pytest.mark.parametrize("ids", [[], [7], [151_000, 3, 0], [-1, 2], [1 << 40, 5], [300] * 1000])
def test_token_ids_are_shared_and_equal_what_they_were(ids):
    assert shared_ints(ids) == tuple(ids)
    one, other = (shared_ints(json.loads(json.dumps([151_000, 300, *ids]))) for _ in range(2))
    assert one == (151_000, 300, *ids)
    assert one[0] is other[0] or not all(0 <= number < NUM_SHARED for number in ids)
