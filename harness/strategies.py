"""How training is spread over processes, beyond what Lightning names."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch.strategies import ModelParallelStrategy

from harness.store import check_sums, write_sums


class FSDP2Strategy(ModelParallelStrategy):
    """Weights, gradients and optimizer states sharded over all processes, on accelerators or CPUs.

    Lightning's ModelParallelStrategy shards over the nodes unless it is told the number of processes.
    """

    def __init__(
        self,
        save_distributed_checkpoint: bool = True,
        process_group_backend: str | None = None,
        timeout: timedelta | None = default_pg_timeout,
    ) -> None:
        """
        Args:
            save_distributed_checkpoint: every process writes its shard into a checkpoint folder; otherwise the first
                writes one file, for which it needs the memory of the whole model.
            process_group_backend: of torch.distributed; by default the one for the device.
            timeout: of collective operations.
        """
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """As Lightning does, and a folder of shards gets the hashes of its files."""
        super().save_checkpoint(checkpoint, filepath, storage_options)
        self.barrier()
        if self.is_global_zero and Path(filepath).is_dir():
            write_sums(filepath)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """As Lightning does; raises `InputError` for a folder of shards in which a file is not as it was saved."""
        path = Path(self.broadcast(checkpoint_path))
        if path.is_dir():
            check_sums(path)
        return super().load_checkpoint(path, weights_only)
