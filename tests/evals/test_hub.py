"""Tasks fetched by `datasets` itself from a hub on this machine, at the commit that the task names."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from harness.evals.rows import load_task
from harness.evals.task import shipped_tasks
from tests.evals.hub import serve
from tests.paths import ROOT

LOAD = """
import json, sys
from harness.errors import InputError
from harness.evals.rows import load_task
from harness.evals.task import shipped_tasks
try:
    data = load_task(shipped_tasks()[sys.argv[1]])
except InputError as error:
    print(json.dumps({"error": str(error)}))
else:
    answer, level = data.problems[0].answer, data.problems[0].level
    print(json.dumps({"count": len(data.problems), "origin": data.origin, "answer": answer, "level": level}))
"""


def run(arguments, address, home, **variables):
    """In a process of its own: the client reads the hub's address when it is imported."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"} | variables
    environment.pop("HARNESS_DATA_DIR", None)
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def load(name, address, home):
    done = run(["-c", LOAD, name], address, home)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def math_rows(count):
    row = {"problem": "1 + 1", "solution": "It is 2.", "answer": "2", "subject": "Algebra", "level": 3}
    return "".join(json.dumps({**row, "unique_id": f"test/{i}"}) + "\n" for i in range(count)).encode()


def parquet(rows):
    import io

    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


GSM8K_CARD = b"""---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train-*}
  - {split: test, path: main/test-*}
- config_name: socratic
  data_files:
  - {split: test, path: socratic/test-*}
---
# gsm8k
"""


TRAIN = """
import sys
from harness.datamodules import SFTDataModule
from harness.models.checkpoints import load_tokenizer
rows = {"path": "own/sums", "revision": "c" * 40, "split": "train", "columns": {"prompt": "q", "response": "a"}}
data = SFTDataModule([rows], tokenizer=load_tokenizer(sys.argv[1]), template="plain")
print([batch["input_ids"].tolist() for batch in data.train_dataloader()])
"""


@pytest.mark.slow
def test_a_data_set_of_the_hub_is_trained_on_and_kept_for_when_the_hub_is_away(tiny_model_dir, tmp_path):
    rows = [{"q": f"{i} + 1 =", "a": str(i + 1)} for i in range(9)]
    files = {"README.md": b"# sums\n", "train.parquet": parquet(rows), "test.parquet": parquet(rows[:1])}
    arguments = ["-c", TRAIN, str(tiny_model_dir)]
    with serve({"own/sums": ("c" * 40, files)}) as (url, _):
        fetched = run(arguments, url, tmp_path)
    kept = run(arguments, url, tmp_path, HF_HUB_OFFLINE="1")  # nobody would answer there now
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = TRAIN.replace('"own/sums", "revision": "c" * 40, "split": "train"', repr(str(tmp_path / "rows.jsonl")))
    local = run(["-c", own, str(tiny_model_dir)], url, tmp_path)
    assert local.returncode == 0, local.stderr[-3000:]
    for done in (fetched, kept):
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.splitlines()[-1] == local.stdout.splitlines()[-1]


@pytest.mark.slow
def test_rows_are_downloaded_at_the_pinned_commit_once(tmp_path):
    hub = shipped_tasks()["math500"].hub
    with serve({hub.dataset: (hub.revision, {"README.md": b"# MATH-500\n", "test.jsonl": math_rows(500)})}) as (
        url,
        seen,
    ):
        found = load("math500", url, tmp_path)
        assert found == {"count": 500, "origin": f"{hub.dataset}@{hub.revision}", "answer": "2", "level": "3"}
        downloads = [request for request in seen if request.startswith("GET") and "test.jsonl" in request]
        assert downloads
        assert all(hub.revision in request for request in downloads)
        assert load("math500", url, tmp_path) == found
        assert [request for request in seen if request.startswith("GET") and "test.jsonl" in request] == downloads


@pytest.mark.slow
def test_a_configuration_and_the_answer_behind_a_marker_are_found(tmp_path):
    hub = shipped_tasks()["gsm8k"].hub
    rows = [{"question": f"How many is {i}?", "answer": f"It is {i}.\n#### {i + 7}"} for i in range(1319)]
    files = {
        "README.md": GSM8K_CARD,
        "main/test-00000-of-00001.parquet": parquet(rows),
        "main/train-00000-of-00001.parquet": parquet(rows[:3]),
        "socratic/test-00000-of-00001.parquet": parquet(rows[:5]),
    }
    with serve({hub.dataset: (hub.revision, files)}) as (url, seen):
        found = load("gsm8k", url, tmp_path)
        assert (found.get("count"), found.get("answer")) == (1319, "7"), (found, seen)


@pytest.mark.slow
def test_rows_are_fetched_into_the_data_folder_by_a_command(tmp_path):
    hub, rows = shipped_tasks()["math500"].hub, tmp_path / "rows"
    command = ["-m", "harness", "tasks", "--fetch", "math500", "--data_dir", str(rows)]
    with serve({hub.dataset: (hub.revision, {"README.md": b"# MATH-500\n", "test.jsonl": math_rows(500)})}) as (url, _):
        done = run(command, url, tmp_path)
        assert done.stdout == f"{rows / 'math500.jsonl'}: 500 rows of microsoft/rStar, openreasoner/openr (MIT)\n"
        from_hub = load("math500", url, tmp_path)
    from_file = load_task(shipped_tasks()["math500"], rows)
    problem = from_file.problems[0]
    assert (len(from_file.problems), problem.answer, problem.level) == (500, from_hub["answer"], from_hub["level"])
    refused = run([*command[:4], "amc23", *command[5:]], url, tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: task 'amc23' names no data set of the hub; take its rows from ")


@pytest.mark.slow
def test_what_the_hub_does_not_hold_is_one_sentence(tmp_path):
    hub = shipped_tasks()["math500"].hub
    with serve({hub.dataset: (hub.revision, {"README.md": b"", "test.jsonl": math_rows(499)})}) as (url, _):
        assert "499 rows, but 'math500' is published with 500" in load("math500", url, tmp_path / "short")["error"]
    with serve({hub.dataset: ("0" * 40, {"test.jsonl": math_rows(500)})}) as (url, _):
        error = load("math500", url, tmp_path / "moved")["error"]
        assert error.startswith(f"task 'math500': {hub.dataset} cannot be fetched from the hub (")
        assert "HARNESS_DATA_DIR" in error
        assert "\n" not in error
