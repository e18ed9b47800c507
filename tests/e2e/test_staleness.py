"""B-STaR whose next iteration is sampled beside the training, through the real command line and a real Ray cluster."""

from __future__ import annotations

import csv
import json
import os
import secrets
import signal

import pytest
import yaml

from harness.commands.rollout import rollout
from harness.engines import EngineConfig
from harness.engines.weights import checkpoint_version
from harness.rewards import ArithmeticSteps
from harness.stages import start
from harness.store import read_rows, stable_hash, write_rows
from harness.types import Rollout
from tests.e2e.beside import MOST, NUM_STEPS
from tests.e2e.small import NUM_PROBLEMS, small_bstar
from tests.e2e.test_kills import last_state, same

# Ray reads them when it is imported; all nodes want the same token.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
pytest.importorskip("ray")
pytestmark = pytest.mark.slow

NUM_ITERATIONS = 3
FILES = [f"iter_{i:03d}{kind}" for i in (1, 2, 3) for kind in (".probe.jsonl", ".jsonl", ".train.jsonl")]
FILES += [f"eval_{i:03d}{kind}" for i in (0, 1, 2, 3) for kind in (".jsonl", ".json")]
ALONE = EngineConfig(kind="transformers", dtype="float32", max_num_seqs=1)
"""One sample at a time, so that no log-probability depends on what else is drawn."""


def small_config(folder, data):
    config = small_bstar(folder, data, NUM_STEPS, NUM_ITERATIONS)
    config["model"]["init_args"]["optimizer"]["lr"] = 1e-3
    checkpoint, sampler = config["trainer"]["callbacks"][:2]
    checkpoint.setdefault("init_args", {})["save_top_k"] = -1
    sampler["init_args"] |= {
        "staleness": 1,
        "engine": {"kind": "ray", "replica": "transformers", "replicas": 1, "dtype": "float32", "max_num_seqs": 1},
        "search": {"class_path": "tests.e2e.beside.MeetingSearch"},
        "reward": {"class_path": "harness.rewards.ArithmeticSteps"},
        "select": {"class_path": "harness.selection.TopK", "init_args": {"keep_cut": True, "keep_unanswered": True}},
    }
    config["trainer"]["callbacks"].append({"class_path": "tests.e2e.beside.MeetingTraining"})
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def fit():
    """Runs `harness fit` on a cluster of this test's own, from where the run was; exit status and output."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)

    def run(config, **environment):
        log = config.with_suffix(".log")
        log.unlink(missing_ok=True)
        arguments = ("fit", "--config", str(config), "--ckpt_path", "last")
        environment = {"RAY_ADDRESS": cluster.address, "WANDB_MODE": "disabled", **environment}
        process = start(("-m", "harness"), arguments, log, environment)
        process.join()
        return process.exitcode, log.read_text()

    yield run
    cluster.shutdown()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, data, fit):
    folder = tmp_path_factory.mktemp("unbroken")
    status, output = fit(small_config(folder, data), MEET="0")
    assert status == 0, output
    return folder / "run"


def manifest(run, iteration):
    return json.loads((run / f"rollouts/iter_{iteration:03d}.json").read_text())


def test_an_iteration_is_drawn_by_the_weights_that_the_one_before_it_was_trained_from(tmp_path, data, unbroken):
    """The same samples come from the weights that were exported then, drawn by another command one after the other."""
    [first, second, third] = (unbroken / f"checkpoints/epoch={n}-step={NUM_STEPS * (n + 1)}" for n in range(3))
    assert len({checkpoint_version(folder) for folder in (data / "base", first, second, third)}) == 4
    for iteration, weights in ((1, data / "base"), (2, data / "base"), (3, first)):
        path = unbroken / f"rollouts/iter_{iteration:03d}.jsonl"
        rows = read_rows(path, Rollout)
        assert (
            {row.weights for row in rows} == {checkpoint_version(weights)} == {manifest(unbroken, iteration)["weights"]}
        )
        [sampling] = {row.sampling for row in rows}
        assert sampling.seed == stable_hash(0, iteration, "train", bits=31)
        write_rows(tmp_path / f"{iteration}.jsonl", [row.problem for row in rows])
        rollout(
            str(weights), tmp_path / f"again{iteration}.jsonl", [str(tmp_path / f"{iteration}.jsonl")],
            sampling=sampling, template="arithmetic", reward=ArithmeticSteps(), engine=ALONE,
        )  # fmt: skip
        again = read_rows(tmp_path / f"again{iteration}.jsonl", Rollout)
        drawn = [[[scored.response.token_ids for scored in row.responses] for row in each] for each in (rows, again)]
        assert drawn[0] == drawn[1]
        probed = read_rows(path.with_suffix(".probe.jsonl"), Rollout)
        assert {row.weights for row in probed} == {checkpoint_version(weights)}
    assert [manifest(unbroken, iteration)["staleness"] for iteration in (1, 2, 3)] == [0, 1, 1]
    measured = [json.loads((unbroken / f"rollouts/eval_{n:03d}.json").read_text())["weights"] for n in range(4)]
    assert measured == [checkpoint_version(folder) for folder in (data / "base", first, second, third)]


def test_an_iteration_is_sampled_while_the_one_before_it_is_trained(unbroken):
    stamps = json.loads((unbroken / "stamps.json").read_text())
    for epoch in range(NUM_ITERATIONS - 1):
        searches = [stamps[f"searches {NUM_PROBLEMS * (epoch + 1) + n}"] for n in range(1, MOST + 1)]
        first, second = (stamps[f"steps {NUM_STEPS * epoch + n}"] for n in (1, 2))
        assert first < min(searches)
        assert max(searches) < second
    with open(unbroken / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    hidden = [float(row["time/hidden"]) for row in rows if row.get("time/hidden")]
    assert [seconds > 0 for seconds in hidden] == [True, True, True]  # the last one measured the policy before it
    assert [float(row["rollout/staleness"]) for row in rows if row.get("rollout/staleness")] == [0, 1, 1]


def test_a_run_that_failed_and_was_killed_beside_its_training_ends_as_the_unbroken_one(tmp_path, data, fit, unbroken):
    config, run = small_config(tmp_path, data), tmp_path / "run"
    status, output = fit(config, MEET="0", FAIL_AT=str(NUM_PROBLEMS + MOST + 1))
    assert status == 2, output
    assert output.splitlines()[-1] == "error: a search has failed; mend it."
    assert not (run / "checkpoints/last.ckpt").exists()
    # The first start has drawn iteration 1; the second one is killed in the second epoch, between its first two steps.
    status, output = fit(config, MEET=str(NUM_PROBLEMS), KILL_AT=str(2 * NUM_PROBLEMS + 6))
    assert status == -signal.SIGKILL, output
    assert (run / "rollouts/iter_003.probe.jsonl").exists()
    assert not (run / "rollouts/iter_003.json").exists()
    status, output = fit(config)
    assert status == 0, output
    for name in FILES:
        assert (run / "rollouts" / name).read_bytes() == (unbroken / "rollouts" / name).read_bytes(), name
    assert same(last_state(run), last_state(unbroken))
    assert (run / "hf/model.safetensors").read_bytes() == (unbroken / "hf/model.safetensors").read_bytes()
    again = yaml.safe_load(config.read_text())
    again["trainer"]["callbacks"][1]["init_args"]["staleness"] = 0
    config.write_text(yaml.safe_dump(again))
    status, output = fit(config)
    assert status == 2
    assert "iter_001.json: of a run with staleness 1, now 0; keep staleness: 1, or start in a new run dir" in output
