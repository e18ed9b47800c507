"""How a .ckpt gets to the disk."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from harness.store import replacing


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
