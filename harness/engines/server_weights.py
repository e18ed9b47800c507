"""Weights for servers, written where they see them; vLLM loads them by means of its own."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.engines.weights import WeightLayout, in_buckets
from harness.models.checkpoints import resolve_checkpoint


class WeightsFolder:
    """A folder on a file system that servers see under the same path.

    Args:
        folder: made where it is missing.
        checkpoint: has the names and shapes of the weights.
    """

    def __init__(self, folder: str | Path, checkpoint: str | Path) -> None:
        self._folder = Path(folder).resolve()
        self._layout = WeightLayout.of_checkpoint(resolve_checkpoint(checkpoint))

    @contextlib.contextmanager
    def holding(self, weights: Iterable[tuple[str, Any]]) -> Iterator[Path]:
        """A folder in it that holds the weights, as a checkpoint on disk does, while the block lasts.

        Raises:
            EngineError: a name is unknown, given twice or missing, or a shape differs.
        """
        from safetensors.torch import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="harness-sync-") as name:
            folder = Path(name)
            folder.chmod(0o755)  # servers may be another user's
            for number, bucket in enumerate(in_buckets(self._layout.stored(weights)), 1):
                # Tensors of one file must not share memory, as parts of packed experts do.
                save_file({key: tensor.clone() for key, tensor in bucket.items()}, folder / f"{number:05d}.safetensors")
            yield folder
