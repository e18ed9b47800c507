"""Keeps vLLM's side effects out of the training process: random state, environment, threads, process groups."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def keep_random_state() -> Iterator[None]:
    """Restore Python's, NumPy's and torch's global random state (all devices) on exit."""
    import numpy

    python_state, numpy_state, torch_state = random.getstate(), numpy.random.get_state(), _torch_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        numpy.random.set_state(numpy_state)
        _set_torch_state(torch_state)


class RandomStream:
    """Torch's global random numbers of an engine that draws without seeds, which go on from call to call.

    They begin with entropy of the operating system, so that the engines of ranks and of later starts differ.

    Args:
        seed: instead of the entropy, for processes that must draw the same.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._state: Any = None

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Within `keep_random_state`, which gives the process its own state back."""
        import torch

        if self._state is None and self._seed is not None:
            torch.manual_seed(self._seed)
        elif self._state is None:
            torch.seed()
        else:
            _set_torch_state(self._state)
        try:
            yield
        finally:
            self._state = _torch_state()


def _torch_state() -> tuple[Any, Any]:
    import torch

    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None


def _set_torch_state(state: tuple[Any, Any]) -> None:
    import torch

    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state_all(state[1])


@contextlib.contextmanager
def keep_environment() -> Iterator[None]:
    """Restore environment variables on exit, except vLLM's own.

    vLLM on a CPU sets LD_PRELOAD, LOCAL_WORLD_SIZE and others, which would change child processes and make launchers
    believe they run under torchrun.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) | set(before):
            if name.startswith("VLLM_"):
                continue
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


@contextlib.contextmanager
def keep_torch_threads() -> Iterator[None]:
    """Restore `torch.set_num_threads`, which vLLM on a CPU replaces by a no-op, and the number of threads."""
    import torch

    set_num_threads, num_threads = torch.set_num_threads, torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads = set_num_threads
        if torch.get_num_threads() != num_threads:
            torch.set_num_threads(num_threads)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence vLLM below errors while it starts, unless VLLM_LOGGING_LEVEL asks for more."""
    level = os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    logging.getLogger("vllm").setLevel(level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


HELD_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which launchers and queues end a run or have it saved."""


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Have the signals that this process handles in Python handled after the block instead of within it.

    Lightning's handlers call collective operations on the default process group: SIGTERM a broadcast, SLURM's signal
    all that saving a checkpoint needs. Where a signal has no handler it acts at once, as ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    handlers = {number: signal.getsignal(number) for number in HELD_SIGNALS}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for each in caught:
            signal.raise_signal(each)


class PrivateProcessGroup:
    """A default process group for vLLM alone, beside the one the trainer has or will make.

    vLLM takes the default group of torch.distributed for its own, makes one if there is none, and destroys every group
    of the process when it ends. Inside `entered` the default group is vLLM's, outside it is the trainer's (or none, so
    that a trainer started later still makes its own). Collectives of the trainer must not run inside; so that a signal
    handler runs none, signals are held back until the trainer's group is in place again.
    """

    FIRST_NAME = 1_000_000
    """Groups are named by a counter that all ranks of a trainer must advance alike; ours count from here."""

    def __init__(self) -> None:
        self._group: Any = None
        self._count = self.FIRST_NAME
        self._depth = 0

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        import torch

        if self._depth or not torch.distributed.is_available():
            yield
            return
        from torch.distributed import distributed_c10d as c10d

        world = c10d._world
        with signals_held():
            trainers, count = world.default_pg, world.group_count
            c10d._update_default_pg(self._group)
            world.group_count = self._count
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                self._group, self._count = world.default_pg, world.group_count
                c10d._update_default_pg(trainers)
                world.group_count = count

    def destroy(self) -> None:
        """Destroy vLLM's groups and forget its parallel state, leaving the trainer's groups alone."""
        import torch
        from torch.distributed import distributed_c10d as c10d
        from vllm.distributed import parallel_state

        with self.entered():
            group = c10d._world.default_pg
            # With no default group in place vLLM's clean-up destroys its groups one by one, and no other.
            c10d._update_default_pg(None)
            parallel_state.cleanup_dist_env_and_memory()
            if group is not None:
                torch.distributed.destroy_process_group(group)


VLLM_GROUP = PrivateProcessGroup()
"""One for all engines of the process, because vLLM's parallel state is global."""
