"""How training is spread over processes, beyond what Lightning names."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy

from harness.errors import InputError
from harness.store import check_sums, write_sums


class FSDP2Strategy(ModelParallelStrategy):
    """Weights, gradients and optimizer states sharded over all processes, on accelerators or CPUs.

    Lightning's ModelParallelStrategy shards over the nodes unless it is told the number of processes.
    """

    def __init__(
        self,
        shard_size: int | None = None,
        param_dtype: Literal["float32", "bfloat16", "float16"] | None = None,
        save_distributed_checkpoint: bool = True,
        process_group_backend: str | None = None,
        timeout: timedelta | None = default_pg_timeout,
    ) -> None:
        """
        Args:
            shard_size: processes over which a copy of the model is sharded; the groups hold copies of it, and sum their
                gradients (hybrid sharding, arXiv:2304.11277, section 3.2.2). The number of devices of a machine keeps
                the gathering of weights inside it. Default is one copy over all processes.
            param_dtype: type in which weights are gathered and computed with; gradients are summed over processes in
                float32, and weights and optimizer states stay as they are. Default is that of the weights.
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
        self.shard_size, self.param_dtype = shard_size, param_dtype
        self.shard_options: dict[str, Any] = {}
        """Arguments of `torch.distributed.fsdp.fully_shard`, from the environment's set-up on."""

    def setup_environment(self) -> None:
        """Raises `InputError` if the processes cannot be divided into groups of `shard_size`."""
        world = self._data_parallel_size = self.num_nodes * self.num_processes
        size = world if self.shard_size is None else self.shard_size
        if size < 1 or world % size:
            raise InputError(
                f"trainer.strategy: shard_size is {size}, which does not divide the {world} processes; give a divisor, "
                "such as the number of devices of a machine."
            )
        super().setup_environment()
        mesh = self.device_mesh["data_parallel"]
        if size < world:
            names = ("replicate", "shard")
            mesh = init_device_mesh(self.root_device.type, (world // size, size), mesh_dim_names=names)
        self.shard_options = {"mesh": mesh}
        if self.param_dtype is not None:
            self.shard_options["mp_policy"] = MixedPrecisionPolicy(
                param_dtype=getattr(torch, self.param_dtype), reduce_dtype=torch.float32
            )

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
