"""How a .ckpt gets to the disk."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from harness.errors import InputError, first_line
from harness.store import check_archive, replacing


def use_local(trainer: L.Trainer) -> None:
    """Have a Trainer that would go by Lightning's own way go by this one."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = LocalCheckpointIO()


class LocalCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, straight from the tensors, and then puts it there.

    Lightning's own builds the file in memory twice, and hands it to the system's folder for temporary files. Where that
    lies on another file system, the file is copied from there, and a process killed meanwhile leaves a torn checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with replacing(path) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # A full disk: closing its archive, torch fails once more, over what the file had said.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        """As the base class, but what is damaged is refused: torch itself does not look at the checksums."""
        if Path(path).is_file():
            check_archive(path)
        try:
            return super().load_checkpoint(path, *args, **options)
        except (RuntimeError, EOFError, ValueError, UnpicklingError) as error:
            raise InputError(
                f"{path}: cannot be read ({first_line(error)}); continue from another checkpoint."
            ) from error
