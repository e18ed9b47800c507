"""What a loop and an evaluation tell Weights & Biases, read back from what its real library writes offline."""

import json
from pathlib import Path

import pytest

from harness.artifacts import TYPES, artifact_name
from harness.callbacks import WandbLineage
from harness.engines.weights import checkpoint_version
from harness.errors import InputError
from harness.evals.record import record
from harness.loggers import MetricsFile, PatientWandbLogger
from harness.store import file_hash, read_json, write_json
from tests.callbacks.loop import run
from tests.wandb_log import offline_records

pytest.importorskip("wandb")
pytestmark = pytest.mark.filterwarnings("ignore:.*the tokens of the row are another text")


def artifacts(folder: Path, count: int):
    """(made or used, name, metadata) of the artifacts of an offline run, in order."""

    def those(found):
        logged = [each.artifact for each in found if each.WhichOneof("record_type") == "artifact"]
        return [each for each in logged if each.type in TYPES.values()]  # tables are artifacts too, of W&B's own

    found = those(offline_records(folder, lambda found: len(those(found)) >= count))
    return [("used" if each.use_after_commit else "made", each.name, json.loads(each.metadata)) for each in found]


@pytest.fixture(scope="module")
def told(tmp_path_factory, data):
    """A loop of two iterations that tells an offline run, with a table of two samples in each."""
    folder = tmp_path_factory.mktemp("told")
    files = {str(data / "train.jsonl"): file_hash(data / "train.jsonl")}
    write_json(folder / "environment.json", {"starts": [{"data": files}]})  # as RunRecord does
    logger = PatientWandbLogger(folder, offline=True)
    try:
        run(folder, data, WandbLineage(samples=2), logger=[MetricsFile(folder), logger])
    finally:
        logger.experiment.finish()
    return folder


def test_a_loop_tells_what_each_thing_was_made_from(told, data):
    base, final = (checkpoint_version(path) for path in (data / "base", (told / "hf").resolve()))
    found = artifacts(told, 13)
    first, second = (read_json(told / f"rollouts/iter_00{i}.json", "") for i in (1, 2))
    measured = [artifact_name("evaluation", file_hash(told / f"rollouts/eval_00{i}.json")) for i in range(3)]

    def names(manifest):
        files = {path.partition(".")[2]: digest for path, digest in manifest["hashes"].items()}
        return artifact_name("rollouts", files["jsonl"]), artifact_name("data", files["train.jsonl"])

    (rollouts, rows), (later_rollouts, later_rows) = names(first), names(second)
    between = artifact_name("weights", second["weights"])
    given = artifact_name("weights", base), artifact_name("data", file_hash(data / "train.jsonl"))
    assert [(how, name) for how, name, _ in found] == [
        ("used", given[0]),
        ("used", given[1]),
        ("made", measured[0]),
        ("made", rollouts),
        ("made", rows),
        ("used", rows),
        ("made", between),
        ("made", measured[1]),
        ("made", later_rollouts),
        ("made", later_rows),
        ("used", later_rows),
        ("made", artifact_name("weights", final)),
        ("made", measured[2]),
    ]
    about = {name: metadata for how, name, metadata in found if how == "made"}
    assert about[rollouts]["made_with"] == base
    assert about[rows]["made_from"] == [rollouts]
    assert about[between]["made_from"] == [*given, rows]
    assert about[artifact_name("weights", final)]["made_from"] == [between, later_rows]
    assert [about[name]["of"] for name in measured] == [base, second["weights"], final]


def test_samples_of_each_iteration_are_shown_in_a_table(told):
    tables = sorted(told.glob("wandb/offline-run-*/files/media/table/rollout/samples_*.table.json"))
    shown = [json.loads(path.read_text()) for path in tables]
    rows = sorted((dict(zip(table["columns"], row, strict=True)) for table in shown for row in table["data"]),
                  key=lambda row: (row["iteration"], row["problem"]))  # fmt: skip
    assert [row["iteration"] for row in rows] == [1, 1, 2, 2]
    assert [row["problem"] for row in rows[:2]] == [row["problem"] for row in rows[2:]]
    for row in rows:
        path = told / f"rollouts/iter_00{row['iteration']}.jsonl"
        [stored] = [each for each in map(json.loads, path.read_text().splitlines())
                    if each["problem"]["id"] == row["problem"]]  # fmt: skip
        response = stored["responses"][0]["response"]
        assert row["response"] == "".join(response["steps"])
        assert (row["gold"], row["of"]) == (stored["problem"]["answer"], 2)


def test_an_evaluation_uses_the_weights_that_the_loop_has_made(told, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    final = checkpoint_version((told / "hf").resolve())
    results = {
        "task": "sums", "limit": None, "protocol": {"name": "plain"}, "sampling": {}, "grader": {}, "engine": "vllm",
        "config": {"model": str(told / "hf")}, "hashes": {"weights": final, "data": "ab" * 32, "samples": "cd" * 32},
        "metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}},
    }  # fmt: skip
    (tmp_path / "sums").mkdir()
    record(results, tmp_path / "sums", "project")
    found = artifacts(tmp_path / "sums", 3)
    made_from = [artifact_name("weights", final), artifact_name("data", "ab" * 32)]
    evaluation = artifact_name("evaluation", "cd" * 32)
    assert [(how, name) for how, name, _ in found] == [
        *(("used", name) for name in made_from),
        ("made", evaluation),
    ]
    assert found[2][2]["made_from"] == made_from
    assert ("made", made_from[0]) in {(how, name) for how, name, _ in artifacts(told, 13)}


def test_without_wandb_among_the_loggers_nothing_is_told(tmp_path, data):
    callback = WandbLineage(samples=2)
    with pytest.warns(UserWarning, match="no run of Weights & Biases is among the loggers"):
        run(tmp_path, data, callback, max_epochs=1, logger=MetricsFile(tmp_path))
    assert not (tmp_path / "wandb").exists()
    assert callback._told == set()


def test_a_negative_number_of_samples_is_refused():
    with pytest.raises(InputError, match="samples is -1"):
        WandbLineage(samples=-1)
