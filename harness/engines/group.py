"""One vLLM engine over several ranks of a run, each of which holds a part of the model on its own device."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import queue
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.engines.config import EngineConfig
from harness.engines.isolation import RandomStream
from harness.engines.vllm import VLLMEngine
from harness.errors import EngineError
from harness.types import GenerationRequest, GenerationResult

IDLE = datetime.timedelta(days=365)
"""How long a rank waits for what the first of its group does next: it may score for hours."""
_num_opened = itertools.count()
"""Engines of groups that this process has opened; all ranks open as many."""


@dataclass(frozen=True)
class RankGroup:
    """Consecutive ranks of a run that hold one engine together."""

    number: int
    """Of the group, from 0."""
    rank: int
    """Of this process in the group, from 0."""
    size: int


class GroupEngine(VLLMEngine):
    """vLLM with tensor parallelism over ranks that something else has started (vLLM's `external_launcher`).

    Every rank runs the whole engine, and meets the others of its group in the collective operations of each step. So
    all must do the same in the same order: open, sync, submit, poll, close. Within `led` the first rank of the group
    alone decides what is sampled, and the others do each step with it.

    To vLLM the group is the whole world. Its process group is made by the store of the run's, so it takes no port and
    no variables of a launcher, and groups do not wait for one another.

    Args:
        group: of which this rank is one.

    Raises:
        EngineError: another engine of vLLM is open in this process.
    """

    def __init__(self, checkpoint: str | Path, config: EngineConfig, version: str, group: RankGroup) -> None:
        from torch.distributed import PrefixStore, distributed_c10d

        store = distributed_c10d._get_default_store()
        self._group, self._store = group, PrefixStore(f"harness/engine/{next(_num_opened)}/{group.number}", store)
        self._leads = False
        self._submitted: list[GenerationRequest] = []
        super().__init__(checkpoint, config, version)

    def _start(self, config: EngineConfig, thinks: bool) -> None:
        import torch.distributed as dist
        from vllm.platforms import current_platform

        if dist.is_initialized():
            raise EngineError("an engine over several ranks must be vLLM's only one in its process; close the other.")
        # vLLM takes the process group that it finds.
        dist.init_process_group(
            current_platform.dist_backend, store=self._store, rank=self._group.rank, world_size=self._group.size
        )
        self._talk = dist.new_group(backend="gloo", timeout=IDLE)
        self._name, seed = self._shared((secrets.token_hex(8), secrets.randbits(63)))
        self._stream = RandomStream(seed)
        super()._start(config, thinks)
        # The memory that vLLM's ranks share on a CPU has a name, under which it would stay behind where a process is
        # killed; all have opened it by now.
        for path in Path("/dev/shm").glob(f"*{self._name}*"):
            path.unlink(missing_ok=True)

    def _placement(self, config: EngineConfig) -> dict[str, Any]:
        return {"distributed_executor_backend": "external_launcher"}

    def _executor(self, vllm_config: Any, config: EngineConfig) -> type:
        from vllm.v1.executor.uniproc_executor import ExecutorWithExternalLauncher

        place = f"group:{self._name}", self._group.rank, config.device or 0

        class GroupExecutor(ExecutorWithExternalLauncher):
            def _distributed_args(self) -> tuple[str, int, int]:
                return place

        return GroupExecutor

    @contextlib.contextmanager
    def led(self) -> Iterator[bool]:
        """True on the first rank of the group; False on the others, when they have done all that it does within."""
        if self._group.rank:
            while (requests := self._heard()) is not None:
                for request in requests:
                    self.submit(request)
                self.poll()
            yield False
            return
        self._leads = True
        yield True
        self._leads = False
        self._shared(None)

    def submit(self, request: GenerationRequest) -> None:
        super().submit(request)
        if self._leads:
            self._submitted.append(request)

    def poll(self) -> list[GenerationResult]:
        if self._leads and self.num_pending:
            self._shared(self._submitted)
            self._submitted = []
        return super().poll()

    def _shared(self, value: Any) -> Any:
        """What the first rank of the group gives."""
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, group=self._talk, group_src=0)
        return box[0]

    def _heard(self) -> Any:
        """What the first rank gives, as soon as it does; signals are handled meanwhile, as no collective would do."""
        heard: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def listen() -> None:
            try:
                heard.put(self._shared(None))
            except RuntimeError as error:
                heard.put(error)

        threading.Thread(target=listen, name="group", daemon=True).start()
        if isinstance(found := heard.get(), RuntimeError):
            raise found
        return found

    def close(self) -> None:
        is_open = hasattr(self, "_engine")
        super().close()
        if is_open:
            import torch.distributed as dist

            dist.destroy_process_group(self._talk)
