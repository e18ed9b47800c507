"""Tells Weights & Biases what was made from what, and shows samples of each iteration there."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from harness.artifacts import log_artifact, use_artifact
from harness.callbacks.rollout import RolloutCallback
from harness.engines.weights import checkpoint_version
from harness.errors import InputError
from harness.models.checkpoints import resolve_checkpoint
from harness.rollouts.iteration import IterationFiles
from harness.store import file_hash, read_json, stable_hash, stream_rows
from harness.types import Rollout

COLUMNS = (
    "iteration",
    "problem",
    "question",
    "gold",
    "response",
    "answer",
    "correct",
    "status",
    "reward",
    "right",
    "of",
)
"""Of the table of samples; `right` of `of` responses to the problem are correct."""


class WandbLineage(Callback):
    """Logs artifacts of rollouts, rows, checkpoints and evaluations to the W&B run, and uses what it was given.

    They hold hashes and say where the files lie (`harness.artifacts`); no file is uploaded. `harness eval
    --wandb_project` uses the artifact of the weights that it measures, which is the one logged here. Without W&B as a
    logger it does nothing.

    Args:
        samples: problems of each iteration whose first response is shown in a table, the same random ones each time; 0
            shows none. Unlike artifacts, the table sends their texts.
    """

    def __init__(self, samples: int = 0) -> None:
        if samples < 0:
            raise InputError(f"WandbLineage: samples is {samples}; it must be at least 0.")
        self.samples = samples
        self._run: Any = None
        self._rows: list[str] = []
        """Artifacts that the next checkpoint is made from."""
        self._told: set[str] = set()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        found = [logger.experiment for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not found or found[0].disabled:
            rank_zero_warn("WandbLineage: no run of Weights & Biases is among the loggers, so nothing is told to one.")
            return
        self._run = found[0]
        start: Any = pl_module.checkpoint
        version = checkpoint_version(resolve_checkpoint(start))
        self._rows = [use_artifact(self._run, "weights", version, {"path": str(start)})]
        for path, digest in _data_files(Path(trainer.default_root_dir)).items():
            self._rows.append(use_artifact(self._run, "data", digest, {"path": path}))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The rollouts of the epoch lie ready; what the one before has made is complete."""
        if self._run is None:
            return
        self._tell_made(trainer)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RolloutCallback) and callback.manifest:
                self._tell_iteration(IterationFiles(callback.folder, callback.manifest["iteration"]), callback.manifest)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._run is not None:
            self._tell_made(trainer)

    def _tell_iteration(self, files: IterationFiles, manifest: Mapping[str, Any]) -> None:
        """Rollouts, made with the weights that the manifest names, and rows, made from them and trained on."""
        hashes, iteration = manifest["hashes"], manifest["iteration"]
        if not self._new(hashes[files.train.name]):
            return
        about = {"iteration": iteration, "path": str(files.rollouts), "made_with": str(manifest["weights"])}
        rollouts = log_artifact(
            self._run, "rollouts", hashes[files.rollouts.name], {**about, "monitors": manifest["monitors"]}
        )
        about = {"iteration": iteration, "path": str(files.train), "made_from": [rollouts]}
        log_artifact(self._run, "data", hashes[files.train.name], about)
        self._rows.append(use_artifact(self._run, "data", hashes[files.train.name], about))
        if self.samples:
            from wandb import Table

            table = Table(columns=list(COLUMNS), data=sample_rows(files.rollouts, iteration, self.samples))
            self._run.log({"rollout/samples": table, "iteration": float(iteration)})

    def _tell_made(self, trainer: Trainer) -> None:
        """The newest checkpoint, and measurements of the policy, that have not been told yet."""
        run_dir = Path(trainer.default_root_dir)
        model = run_dir / "hf"
        if model.exists() and self._new(str(model.resolve())):
            about = {"path": str(model), "step": trainer.global_step, "made_from": list(self._rows)}
            self._rows = [log_artifact(self._run, "weights", checkpoint_version(model.resolve()), about)]
        for path in sorted((run_dir / "rollouts").glob("eval_[0-9][0-9][0-9].json")):
            if self._new(digest := file_hash(path)):
                result = read_json(path, "restore it, or start anew")
                about = {"path": str(path), "of": str(result["weights"]), "accuracy": result["accuracy"]}
                log_artifact(self._run, "evaluation", digest, about)

    def _new(self, what: str) -> bool:
        """Whether it has not been told in this start."""
        known = what in self._told
        self._told.add(what)
        return not known


def _data_files(run_dir: Path) -> dict[str, str]:
    """The files that this start's configuration names, with their hashes, as `RunRecord` has written them."""
    path = run_dir / "environment.json"
    starts = read_json(path, "restore it, or remove it").get("starts", []) if path.is_file() else []
    return starts[-1].get("data", {}) if starts else {}


def sample_rows(path: Path, iteration: int, count: int) -> list[list[Any]]:
    """`COLUMNS` of the first response to `count` problems of a file of rollouts, chosen by their ids."""
    rollouts = stream_rows(path, Rollout)
    chosen = heapq.nsmallest(count, rollouts, key=lambda rollout: stable_hash("shown", rollout.problem.id))
    return [
        [
            iteration,
            rollout.problem.id,
            rollout.problem.question,
            rollout.problem.answer,
            first.response.text,
            first.answer or "",
            first.correct,
            first.status,
            first.reward,
            sum(each.correct for each in rollout.responses),
            len(rollout.responses),
        ]
        for rollout in chosen
        for first in rollout.responses[:1]
    ]
