"""Lightning's progress through `harness.progress`."""

from __future__ import annotations

import contextlib
import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from harness.progress import Progress, track


class TrainingProgress(ProgressBar):
    """Shows each epoch, validation, test and prediction pass as one tracked phase."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._shown: dict[str, tuple[contextlib.ExitStack, Progress]] = {}

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def _begin(self, phase: str, label: str, total: float) -> None:
        self._end(phase)
        if self._enabled:
            stack = contextlib.ExitStack()
            known = None if math.isinf(total) else int(total)
            self._shown[phase] = (stack, stack.enter_context(track(known, label)))

    def _advance(self, phase: str, trainer: Trainer, module: LightningModule) -> None:
        if phase in self._shown:
            progress = self._shown[phase][1]
            # Reading a metric waits for the accelerator, so only what will be shown is read.
            fields = self.get_metrics(trainer, module) if progress.due else {}
            progress.advance(1, **fields)

    def _end(self, phase: str, error: BaseException | None = None) -> None:
        if phase in self._shown:
            stack, _ = self._shown.pop(phase)
            stack.__exit__(type(error) if error else None, error, None)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        return dict(trainer.progress_bar_metrics)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        last = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        self._begin("train", f"epoch {trainer.current_epoch + 1}{last}", self.total_train_batches)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._advance("train", trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end("train")

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.has_dataloader_changed(dataloader_idx) and not trainer.sanity_checking:
            self._begin("validate", "validate", self.total_val_batches_current_dataloader)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        self._advance("validate", trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end("validate")
        self.reset_dataloader_idx_tracker()

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.has_dataloader_changed(dataloader_idx):
            self._begin("test", "test", self.total_test_batches_current_dataloader)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        self._advance("test", trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end("test")
        self.reset_dataloader_idx_tracker()

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.has_dataloader_changed(dataloader_idx):
            self._begin("predict", "predict", self.total_predict_batches_current_dataloader)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        self._advance("predict", trainer, pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end("predict")
        self.reset_dataloader_idx_tracker()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        for phase in list(self._shown):
            self._end(phase, exception)
