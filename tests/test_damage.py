"""Damage to any file that a run or an evaluation leaves is told by the file's name, or changes no result."""

from __future__ import annotations

import io
import json
import random
import shutil
from pathlib import Path

import lightning as L
import pytest
import torch

from harness.callbacks.checkpoint import HFCheckpoint
from harness.callbacks.checkpoint_io import LocalCheckpointIO
from harness.callbacks.held_out_accuracy import HeldOutAccuracy
from harness.callbacks.rollout import RolloutCallback
from harness.callbacks.run_record import RunRecord
from harness.datamodules import SFTDataModule
from harness.engines import EngineConfig
from harness.errors import InputError
from harness.evals.run import run
from harness.evals.samples import read_results, read_rollouts
from harness.loggers import MetricsFile
from harness.models.checkpoints import load_tokenizer
from harness.models.weights import fingerprint, load_causal_lm, named_weights
from harness.modules import SFTModule
from harness.provenance import Provenance, ProvenanceFile
from harness.report.blocks import BlockWriter, Choice
from harness.report.runs import curves, training
from harness.rollouts.explorations import Explored
from harness.rollouts.iteration import read_manifest
from harness.rollouts.trees import read_trees
from harness.search.step_explore import Continuation, Exploration, ExploredStep
from harness.selection import BalancedSampling, TopK
from harness.store import AppendLog, read_rows
from harness.types import Completion, Problem, Response, Rollout, SamplingConfig, ScoredResponse
from tests.evals.conftest import build_byte_tokenizer
from tests.evals.test_run import evaluation, half_right, served
from tests.report.conftest import write_trees

NUM_CASES = 200
LOGS = ("log.jsonl", "trees.jsonl", "explorations.jsonl")
ROLLOUT = Rollout(Problem("p", "1 + 1", "2"), (ScoredResponse(Response(("a\n", "2"), "stop", (3, 4)), "2", True, 2.0),))


@pytest.fixture(scope="session")
def left(tmp_path_factory, tiny_model_dir):
    """A run of self-improvement of two iterations, an evaluation, a log in progress and a file of trees."""
    folder = tmp_path_factory.mktemp("left")
    problems = folder / "problems.jsonl"
    problems.write_text("".join(json.dumps({"question": f"{i}+1=", "answer": str(i + 1)}) + "\n" for i in range(6)))
    probe = folder / "probe.jsonl"
    probe.write_text("".join(json.dumps({"question": f"{i}+2=", "answer": str(i + 2)}) + "\n" for i in range(2)))
    test = folder / "test.jsonl"
    test.write_text("".join(json.dumps({"question": f"{i}+3=", "answer": str(i + 3)}) + "\n" for i in range(2)))
    run_dir = folder / "run"
    callbacks = [
        RunRecord(run_dir, "model: tiny\nseed: 0\n"),
        RolloutCallback(
            [str(problems)],
            BalancedSampling(
                SamplingConfig(n=2, max_tokens=6),
                (0.5, 1.5),
                (-1.0, 0.5),
                rows_per_problem=None,
                n_star=1,
                keep_cut=True,
                keep_unanswered=True,
            ),
            template="plain",
            probe_problems=[str(probe)],
            hint="{question} {answer}",
            select=TopK(keep_cut=True, keep_unanswered=True),
            evaluation=HeldOutAccuracy([str(test)], max_tokens=6),
            engine=EngineConfig("transformers"),
            seed=0,
        ),
        HFCheckpoint(dirpath=run_dir / "checkpoints", save_top_k=1),
    ]
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=2, reload_dataloaders_every_n_epochs=1, default_root_dir=run_dir,
        callbacks=callbacks, logger=MetricsFile(run_dir), log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(SFTModule(str(tiny_model_dir)), SFTDataModule([], batch_size=4, max_length=32))
    byte_tokenizer = build_byte_tokenizer()
    run(evaluation(n=2), served(half_right(byte_tokenizer), byte_tokenizer), folder / "eval", {})
    with AppendLog(folder / "log.jsonl") as log:
        log.extend([ROLLOUT] * 5)
    write_trees(folder / "written.jsonl")
    with AppendLog(folder / "trees.jsonl") as log:
        log.extend(read_trees(folder / "written.jsonl") * 3)
    right = ExploredStep(1, (Continuation(Completion("3", (3,), -0.5), True),))
    explored = Exploration(Response(("a\n", "2"), "stop", (3, 4)), (right,), 1)
    with AppendLog(folder / "explorations.jsonl") as log:
        log.extend([Explored(ROLLOUT.problem, ("a\n2",), (explored,), "f" * 16, "0" * 16)] * 5)
    return folder


def model_of(folder):
    tokenizer = load_tokenizer(folder)
    return fingerprint(named_weights(load_causal_lm(folder))), tokenizer("1+1=")["input_ids"]


def checkpoint_of(path):
    content = io.BytesIO()
    state = LocalCheckpointIO().load_checkpoint(path, weights_only=False)
    torch.save(state["state_dict"], content)
    return content.getvalue(), repr(state["loops"]), state["global_step"]


def iteration_of(folder, path):
    read_manifest(path)
    return training(folder, "run", BlockWriter(io.BytesIO()), Choice(5))["iterations"]


def provenance_of(path):
    """Whatever the account says, rows that were made otherwise are refused."""
    rows = path.with_name(path.name.removesuffix(".provenance"))
    made_by = ProvenanceFile(rows, Provenance({"weights": "another"}, {}, ()))
    with pytest.raises(InputError, match="made with another"):
        made_by.check(1, read_rows(rows, Rollout)[0].provenance)
    return "refused"


def metrics_of(folder, name):
    """The metrics are shown, and nothing is computed from them: a run that goes on adds to whatever is there."""
    MetricsFile(folder).log_metrics({"train/loss": 1.5}, step=99)
    return curves(folder / name)["train/loss"][-1]


def record_of(folder, name):
    """What a resumed run makes of its record; the notes it prints name the file where something has changed."""
    record = RunRecord(folder, "model: tiny\nseed: 0\n")
    if name == "environment.json":
        record._write_environment({"data": {}})
        return len(json.loads((folder / name).read_text())["starts"])
    return record._write_config()


def read_back(folder: Path, name: str):
    """What a command makes of the file: every result that it has a part in."""
    path = folder / name
    if name.startswith("eval/"):
        return read_results(path.parent), read_rollouts(path.parent)
    if name == "log.jsonl":
        with AppendLog(path):
            return read_rows(path, Rollout)
    if name == "trees.jsonl":
        return read_trees(path)
    if name == "explorations.jsonl":
        return read_rows(path, Explored)
    if name == "run/metrics.csv":
        return metrics_of(path.parent, path.name)
    if path.suffix == ".provenance":
        return provenance_of(path)
    if path.suffix == ".ckpt":
        return checkpoint_of(path)
    if name in ("run/config.yaml", "run/environment.json"):
        return record_of(path.parent, path.name)
    if "rollouts" in name:
        manifest = path.with_name(path.name.partition(".")[0] + ".json")
        return iteration_of(folder / "run", manifest)
    return model_of(path.parent)


KINDS = {
    "eval/results.json": 24,
    "eval/samples.jsonl.gz": 24,
    "log.jsonl": 24,
    "trees.jsonl": 12,
    "explorations.jsonl": 12,
    "run/checkpoints/last.ckpt": 32,
    "run/hf/model.safetensors": 12,
    "run/hf/config.json": 8,
    "run/hf/tokenizer.json": 8,
    "run/hf/SHA256SUMS": 8,
    "run/rollouts/iter_001.json": 16,
    "run/rollouts/iter_001.jsonl": 8,
    "run/rollouts/iter_001.train.jsonl": 8,
    "run/rollouts/eval_000.json": 12,
    "run/rollouts/eval_000.jsonl": 8,
    "run/rollouts/iter_001.probe.jsonl": 8,
    "run/rollouts/iter_001.hinted.jsonl": 8,
    "run/rollouts/iter_001.jsonl.provenance": 12,
    "run/environment.json": 8,
    "run/config.yaml": 8,
    "run/metrics.csv": 12,
}
CASES = [(name, number) for name, count in KINDS.items() for number in range(count)]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One bit or digit changed, the end cut off, or a stretch zeroed, as a power failure leaves it."""
    place = rng.randrange(len(content))
    kind = rng.choice(["bit", "bit", "digit", "cut", "zeros"])
    if kind == "cut":
        return content[:place]
    if kind == "zeros":
        return content[:place] + bytes(min(64, len(content) - place)) + content[place + 64 :]
    changed = bytearray(content)
    digits = [i for i, byte in enumerate(content[place : place + 2000], place) if 48 <= byte <= 57]
    if kind == "digit" and digits:
        changed[digits[0]] = 48 + (changed[digits[0]] - 47) % 10
    else:
        changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_there_are_enough_cases():
    assert len(CASES) >= NUM_CASES


@pytest.mark.parametrize("name", KINDS)
def test_damage_is_told_by_the_files_name_or_changes_nothing(left, tmp_path, name):
    intact = read_back(copy(left, tmp_path / "intact", name), name)
    noticed = 0
    for number in range(KINDS[name]):
        folder = copy(left, tmp_path / str(number), name)
        path, rng = folder / name, random.Random(f"{name} {number}")
        content = path.read_bytes()
        path.unlink()  # it may be a hard link
        path.write_bytes(damaged(content, rng))
        message, found = "", None
        try:
            found = read_back(folder, name)
        except InputError as error:
            message = str(error)
            noticed += 1
        if message:
            assert path.name in message
            assert "\n" not in message
        else:
            is_torn_log = name in LOGS and found == intact[: len(found)]
            is_told = name == "run/config.yaml" and found[1]
            assert found == intact or is_torn_log or is_told, (name, number)
        shutil.rmtree(folder)
    assert noticed or name == "run/metrics.csv", "nothing was noticed in this file"


def copy(left: Path, folder: Path, name: str) -> Path:
    """The part of what was left that a file belongs to."""
    part = name.split("/")[0]
    if (left / part).is_file():
        folder.mkdir()
        shutil.copy(left / part, folder / part)
    else:
        shutil.copytree(left / part, folder / part, symlinks=True)
    return folder
