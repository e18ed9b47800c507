"""What modules share whose rows begin alike: tokens that several rows begin with are computed once."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

from harness.models.shared_prefix import longest_shareable, share_prefixes
from harness.modules.base import TrainingModule


class SharedPrefixModule(TrainingModule):
    """A module that lays out batches with `lengths` and `prompts` as trees where that saves enough."""

    def __init__(self, checkpoint: str, *, share_prefix: bool = True, **options: Any) -> None:
        """
        Args:
            checkpoint: directory or hub id of the model to start from.
            share_prefix: compute the tokens that several rows begin with (a prompt's responses, the sides of a pair)
                once, in batches where that saves a tenth or more. Same result up to rounding; ignored where the
                architecture does not allow it.
            options: those of `TrainingModule`.
        """
        super().__init__(checkpoint, **options)
        self.share_prefix = share_prefix

    def setup(self, stage: str) -> None:
        super().setup(stage)
        # That is meant: the layout of rows is chosen by the model that reads them.
        warnings.filterwarnings("ignore", message="You have overridden `on_before_batch_transfer` in `LightningModule`")

    @cached_property
    def _longest_shareable(self) -> int:
        return longest_shareable(self.model)

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        shares = self.share_prefix and "lengths" in batch and batch["input_ids"].shape[1] <= self._longest_shareable
        return share_prefixes(batch) if shares else batch
