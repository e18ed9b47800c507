"""Where the time and memory of training steps go, phase by phase and operator by operator."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.profilers import Profiler
from torch.profiler import ProfilerActivity, profile, record_function

from harness.callbacks.stopwatch import Stopwatch
from harness.errors import InputError
from harness.models.flops import attended_pairs

STEP_PHASES = {
    "train_dataloader_next": "data",
    "batch_to_device": "data",
    "training_step": "forward",
    "backward": "backward",
    "optimizer_step": "optimizer",
}
"""What Lightning calls a part of a step -> the phase that it belongs to; the longer phases inside of others are taken
out of them."""
RUN_PHASES = ("open", "sync", "prove", "measure", "sample", "save")
"""Of `RolloutCallback` and `HFCheckpoint`, which tell the Trainer's profiler of them."""
NUM_OPERATORS = 15


class PeakMemory:
    """The most memory since it was last asked for, in bytes.

    On CUDA what torch's tensors take, elsewhere the resident memory of the process (Linux alone).
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def take(self) -> int:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            peak = torch.cuda.max_memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            return peak
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        with contextlib.suppress(OSError):  # where the kernel cannot start anew, a peak is that of the whole run
            Path("/proc/self/clear_refs").write_text("5")
        return 1024 * int(found[1]) if found else 0


class PhaseProfiler(Profiler):
    """Lightning's profiler that knows phases; each second and each peak belongs to the innermost one that is open."""

    def __init__(self) -> None:
        super().__init__()
        self.watch = Stopwatch()
        self.peaks: dict[str, int] = {}
        """Bytes by phase; "other" is outside of all."""
        self.memory: PeakMemory | None = None
        """Set once the device is known."""
        self._open: list[tuple[str, str, contextlib.ExitStack]] = []

    def start(self, action_name: str) -> None:
        name = action_name.rpartition("]")[2].rpartition(".")[2]
        phase = name if name in RUN_PHASES else STEP_PHASES.get(name)
        if phase is None:
            return
        self.note_peak()
        stack = contextlib.ExitStack()
        stack.enter_context(self.watch.running(phase))
        stack.enter_context(record_function(f"phase: {phase}"))
        self._open.append((action_name, phase, stack))

    def stop(self, action_name: str) -> None:
        if self._open and self._open[-1][0] == action_name:
            self.note_peak()
            self._open.pop()[2].close()

    def note_peak(self) -> None:
        """Count the memory since the last phase began or ended to the one that is open; waits for the device."""
        if self.memory is not None:
            phase = self._open[-1][1] if self._open else "other"
            self.peaks[phase] = max(self.peaks.get(phase, 0), self.memory.take())


class Operator(NamedTuple):
    """What torch did, in the traced steps."""

    name: str
    calls: int
    seconds: float
    """On the device, without the operators that it called; on a CPU those of all threads."""
    share: float
    """Of the seconds of all operators."""


@dataclass
class Measured:
    """What a profile found on one rank; seconds and bytes."""

    start: float = 0.0
    """Reading data, loading the model and what else comes before the first step, but no phase of the run."""
    step: dict[str, float] = field(default_factory=dict)
    """By phase, of one step; "other" is what no phase accounts for."""
    seconds_per_step: float = 0.0
    steps_per_epoch: int = 0
    tokens_per_second: float = 0.0
    """On all devices."""
    mfu: float | None = None
    run: dict[str, float] = field(default_factory=dict)
    """By phase of the run outside of steps."""
    rollouts: dict[str, float] = field(default_factory=dict)
    """What an iteration logged, `rollout/*` and `time/*`."""
    peaks: dict[str, int] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    total: float = 0.0
    """Of the whole fit."""


class StepProfile(Callback):
    """Measures some steps of a fit and traces some more; the fit ends with them.

    Warm-up steps come first, in which memory is taken and layers are compiled. Tracing takes time of its own, so the
    steps that are traced come after those that are measured. An epoch is made as long as all of them.

    Args:
        profiler: the Trainer's.
        warmup: optimizer steps before the measured ones, at least one.
        steps: optimizer steps that are measured, at least one.
        traced: optimizer steps that torch's profiler sees.
        trace: file for what it saw, in Chrome's format.
    """

    def __init__(self, profiler: PhaseProfiler, warmup: int, steps: int, traced: int, trace: Path) -> None:
        self.profiler = profiler
        self.warmup, self.steps, self.traced, self.trace = warmup, steps, traced, trace
        self.measured = Measured()
        self._begun = self._measuring = time.perf_counter()
        self._step = self._tokens = 0
        self._pairs: Any = 0
        self._given: int | None = None
        self._tracer: profile | None = None

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole fit."""
        return self.warmup + self.steps + self.traced

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._begun = time.perf_counter()
        self.profiler.memory = PeakMemory(trainer.strategy.root_device)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(data, "batches_per_epoch"):
            raise InputError(
                f"data: {type(data).__name__} has no option batches_per_epoch, by which a profile makes an epoch as "
                "long as it needs; give a datamodule of harness."
            )
        self._given = data.batches_per_epoch
        # One batch is left over, so that callbacks do not take the iteration for a whole one.
        data.batches_per_epoch = self.num_steps * trainer.accumulate_grad_batches + 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        loader: Any = trainer.train_dataloader
        lengthened, data.batches_per_epoch = data.batches_per_epoch, self._given
        batches = len(loader.plan(0))
        data.batches_per_epoch = lengthened
        self.measured.steps_per_epoch = -(-batches // trainer.accumulate_grad_batches)
        self.measured.run = self.profiler.watch.take()
        self.measured.start = time.perf_counter() - self._begun - sum(self.measured.run.values())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module: Any = pl_module
        if module.arithmetic is not None and self.warmup <= self._step < self.warmup + self.steps:
            self._pairs = self._pairs + attended_pairs(batch)
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        self.profiler.note_peak()
        if self._step == self.warmup:
            self.profiler.watch.take()
            self._tokens, self._measuring = module.num_tokens, time.perf_counter()
        elif self._step == self.warmup + self.steps:
            self._finish(trainer, module)
            if self.traced and trainer.is_global_zero:
                activities = [ProfilerActivity.CPU]
                activities += [ProfilerActivity.CUDA] if trainer.strategy.root_device.type == "cuda" else []
                self._tracer = profile(activities=activities)
                self._tracer.start()
        elif self._step == self.num_steps and self._tracer is not None:
            self._tracer.stop()
            self._tracer.export_chrome_trace(str(self.trace))
            self.measured.operators = operators(self._tracer, trainer.strategy.root_device.type == "cuda")
            self._tracer = None
        if self._step == self.num_steps:
            self.profiler.watch.take()  # what follows is no step

    def _finish(self, trainer: Trainer, module: Any) -> None:
        """Note what the measured steps took."""
        seconds, phases = time.perf_counter() - self._measuring, self.profiler.watch.take()
        tokens, found = module.num_tokens - self._tokens, self.measured
        found.seconds_per_step = seconds / self.steps
        found.step = {name: value / self.steps for name, value in phases.items()}
        found.step["other"] = (seconds - sum(phases.values())) / self.steps
        found.tokens_per_second = tokens / seconds
        if module.arithmetic is not None:
            token, pair, peak = module.arithmetic
            pairs = float(trainer.strategy.reduce(self._pairs, reduce_op="sum"))
            found.mfu = (token * tokens + pair * pairs) / (seconds * peak * trainer.world_size)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.profiler.note_peak()
        self.measured.run |= self.profiler.watch.take()
        self.measured.peaks = self.profiler.peaks
        self.measured.total = time.perf_counter() - self._begun


def operators(traced: profile, on_device: bool) -> list[Operator]:
    """The operators that took most time by themselves, the longest first."""
    events = [event for event in traced.key_averages() if not event.key.startswith(("phase: ", "ProfilerStep"))]
    seconds = {e.key: (e.self_device_time_total if on_device else e.self_cpu_time_total) / 1e6 for e in events}
    total = sum(seconds.values()) or 1.0
    longest = sorted(events, key=lambda event: -seconds[event.key])[:NUM_OPERATORS]
    return [Operator(e.key, e.count, seconds[e.key], seconds[e.key] / total) for e in longest]
