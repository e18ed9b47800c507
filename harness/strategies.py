"""How training is spread over processes, beyond what Lightning names."""

from __future__ import annotations

from datetime import timedelta

from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch.strategies import ModelParallelStrategy


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
