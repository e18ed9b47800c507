"""Do the training rows hold problems of the benchmarks the model will be measured on?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from harness.evals.contamination import overlaps, training_texts
from harness.evals.rows import load_task
from harness.evals.task import find_tasks
from harness.sources import Source


class ContaminationCheck(Callback):
    """Says before training, and for every new file of rollouts, what the training rows share with benchmarks.

    Args:
        tasks: names of tasks, groups, or paths of JSONL files of problems, separated by commas.
        data_dir: folder of task files; default is the environment variable HARNESS_DATA_DIR, then the hub.
    """

    def __init__(self, tasks: str, data_dir: Path | None = None) -> None:
        self.tasks, self.data_dir = tasks, data_dir
        self._checked: set[Source] = set()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        new = [source for source in datamodule.sources(datamodule.train_files) if source not in self._checked]
        if not new or not trainer.is_global_zero:
            return
        self._checked.update(new)
        problems = {task.name: load_task(task, self.data_dir).problems for task in find_tasks(self.tasks)}
        for overlap in overlaps(problems, training_texts(new)):
            rank_zero_info(f"contamination: {overlap}")
