"""A fit that is measured and thrown away: LightningCLI in a folder of its own, for `harness profile`."""

from __future__ import annotations

import contextlib
import csv
import shutil
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from harness.callbacks.checkpoint import HFCheckpoint
from harness.callbacks.step_profile import StepProfile
from harness.cli.parser import check_config_files
from harness.cli.training import TrainingCLI, quieten
from harness.errors import InputError
from harness.locks import only_writer
from harness.loggers import MetricsFile
from harness.rundir import METRICS

SCRATCH = ".profiled_run"
"""Run directory of what is profiled, inside the output folder; removed in the end."""
SETTINGS = {
    "ckpt_path": "null",
    "trainer.default_root_dir": "null",
    "trainer.max_epochs": "1",
    "trainer.max_time": "null",
    "trainer.limit_train_batches": "null",
    "trainer.limit_val_batches": "0",
    "trainer.num_sanity_val_steps": "0",
    "trainer.logger": "null",
    "trainer.profiler": "null",
}
"""What a profile has otherwise than the run: it begins anew, and stops after its steps."""


class ShortLivedCheckpoint(HFCheckpoint):
    """Saves once, at the end, what nobody is told of."""

    def __init__(self) -> None:
        super().__init__(save_top_k=0)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pass


class ProfiledCLI(TrainingCLI):
    """`harness fit` for the steps of a `StepProfile`.

    Args:
        files: configurations.
        meter: ends up in the Trainer, with its profiler.
        problems: that a rollout callback samples in an iteration; None is what the configuration says.
        output: folder that holds the scratch run.
        held: takes the lock of `output`.
    """

    def __init__(
        self, files: list[str], meter: StepProfile, problems: int | None, output: Path, held: contextlib.ExitStack
    ) -> None:
        self._meter, self._problems, self._output = meter, problems, output
        settings = SETTINGS | {"run_dir": str(output / SCRATCH), "trainer.max_steps": str(meter.num_steps)}
        options = [f"--config={file}" for file in files]
        check_config_files(options)
        super().__init__("fit", ["fit", *options, *(f"--{name}={value}" for name, value in settings.items())], held)

    def before_instantiate_classes(self) -> None:
        samplers = [
            callback
            for callback in self.config.fit.trainer.callbacks or ()
            if callback.class_path.endswith(".RolloutCallback")
        ]
        if self._problems is not None and not samplers:
            raise InputError("--problems: the configuration has no RolloutCallback, which samples; leave it out.")
        for sampler in samplers if self._problems is not None else ():
            sampler.init_args.problems_per_iteration = self._problems
        if getattr(rank_zero_only, "rank", 0) == 0:
            self._held.enter_context(only_writer(self._output, folder=True))
            shutil.rmtree(self._output / SCRATCH, ignore_errors=True)
        super().before_instantiate_classes()

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        given = config["callbacks"] or []
        given = given if isinstance(given, list) else [given]
        # What saves may do so elsewhere, and what stops waits for metrics of a validation.
        kept = [callback for callback in given if not isinstance(callback, ModelCheckpoint | EarlyStopping)]
        if any(isinstance(callback, ModelCheckpoint) for callback in given):
            kept.append(ShortLivedCheckpoint())
        run_dir = Path(config["default_root_dir"])
        changes = {
            "logger": MetricsFile(run_dir),
            "profiler": self._meter.profiler,
            "callbacks": [*kept, self._meter],
        }
        return super()._instantiate_trainer({**config, **changes}, callbacks)

    def after_fit(self) -> None:
        if not self._meter.measured.step:
            raise InputError(
                f"the fit ended after {self.trainer.global_step} steps of {self._meter.num_steps}; ask for fewer."
            )


def run_profiled(files: list[str], meter: StepProfile, problems: int | None, output: Path) -> Trainer:
    """Run the steps of a profile; the Trainer that ran them.

    Of a run with rollouts the metrics of the iteration are put into `meter.measured.rollouts`.

    Raises:
        InputError: a configuration that is none of a fit.
    """
    quieten()
    with contextlib.ExitStack() as held:
        cli = ProfiledCLI(files, meter, problems, output, held)
        scratch = output / SCRATCH
        if cli.trainer.is_global_zero:
            meter.measured.rollouts = iteration_metrics(scratch / METRICS)
            shutil.rmtree(scratch, ignore_errors=True)
    return cli.trainer


def iteration_metrics(path: Path) -> dict[str, float]:
    """The metrics of an iteration, `rollout/*` and `time/*`, in the file of a run that had one; else none."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("iteration")]
    groups = ("rollout/", "time/")
    return {name: float(value) for row in rows for name, value in row.items() if value and name.startswith(groups)}
