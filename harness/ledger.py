"""Where a device's memory goes in each phase of a run, and about how long an iteration takes; needs no device.

Bytes of tensors are exact for the layout that is given; what a phase holds beside them (CUDA's context, an engine's
graphs) is an allowance. Speeds are estimates from the sizes alone, by the assumptions that `assumptions` lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.engines.config import EngineConfig
from harness.engines.memory import BESIDE_WEIGHTS, CONTEXT, USABLE, cached_values, weight_bytes
from harness.models.checkpoints import stored_dtype, weights_directory
from harness.models.weights import DTYPES
from harness.modules.footprint import Footprint, count_parameters, footprint
from harness.modules.pairs import PairModule

STEP_SECONDS = 3e-3
"""Of a step of an engine, beside reading weights and cache."""
TRAINING_USE, SCORING_USE = 0.4, 0.3
"""Shares of a device's arithmetic that training and a reward model's forward pass reach."""
FILLED = 0.5
"""Tokens of a response, or of a training row, as a share of the longest."""
FULL_PRECISION = 1 / 16
"""Speed of float32 arithmetic as a share of that in bfloat16."""


@dataclass(frozen=True)
class Phase:
    """Bytes that one device holds at the fullest moment of a phase, by what they are for."""

    name: str
    parts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class EngineSize:
    """What samples on a device."""

    weights: int
    """Bytes, in the engine's number format."""
    cache_token: int
    """Bytes of a token's keys and values."""
    context: int
    """Longest prompt and response, in tokens."""
    samples: int = 256
    """Drawn at the same time at most."""


def training(footprint: Footprint, shards: int, copies: int, accumulates: bool) -> Phase:
    """A training step.

    Args:
        shards: devices over which weights, gradients and moments are split (FSDP2).
        copies: devices that each hold what is not split; gradients of several are summed in buckets (DDP).
        accumulates: several micro-batches make a step, so that gradients are whole all the time.
    """
    whole = accumulates or shards > 1
    activations = footprint.activations if whole else max(footprint.step - footprint.gradients, 0)
    parts = {
        "weights": footprint.weights // shards,
        "gradients": footprint.gradients // shards,
        "optimizer": footprint.moments // shards,
        "activations": activations,
    }
    if footprint.frozen:
        parts["reference model"] = footprint.frozen // shards
    if shards > 1:  # two blocks (the next is fetched ahead) and what is outside of all, with the gradients of one
        parts["gathered"] = 3 * footprint.block + 2 * footprint.rest
    elif copies > 1:
        parts["gradient buckets"] = footprint.gradients
    return Phase("training", parts | {"context": CONTEXT})


def sampling(
    footprint: Footprint, shards: int, engine: EngineSize, memory: int, tensor_parallel: int, reward: int
) -> Phase:
    """Sampling beside a trainer at rest, whose gradients are given back; the cache takes what is left of `memory`."""
    parts = {
        "weights": footprint.weights // shards,
        "optimizer": footprint.moments // shards,
        "engine weights": engine.weights // tensor_parallel,
        "engine beside": BESIDE_WEIGHTS,
    }
    if footprint.frozen:
        parts["reference model"] = footprint.frozen // shards
    if reward:
        parts["reward model"] = reward
    parts["context"] = CONTEXT
    left = int(USABLE * memory) - sum(parts.values())
    return Phase("sampling", parts | {"KV cache": max(left, engine.cache_token * engine.context // tensor_parallel)})


def fits(phase: Phase, memory: int) -> bool:
    return phase.total <= USABLE * memory


def describe(phases: Sequence[Phase], memory: int) -> str:
    """A table, one line a phase and one for each part."""
    lines = []
    for phase in phases:
        free = USABLE * memory - phase.total
        verdict = "fits" if free >= 0 else f"does not fit: {-free / 1e9:.1f} GB too much"
        lines.append(f"{phase.name + ':':10} {phase.total / 1e9:7.1f} of {memory / 1e9:.0f} GB a device, {verdict}")
        lines += [f"  {name:18} {size / 1e9:7.1f}" for name, size in phase.parts.items() if size >= 5e7]
    return "\n".join(lines)


@dataclass(frozen=True)
class Speed:
    """Of one device."""

    flops: float
    """Of dense products in bfloat16, per second."""
    bandwidth: float
    """Bytes of its memory per second."""

    def sampling(self, tokens: float, engine: EngineSize, cache: int, engines: int, tensor_parallel: int) -> float:
        """Seconds to draw so many tokens on all engines; a step reads the weights and the samples' caches once."""
        sample = engine.cache_token * engine.context * FILLED
        samples = max(1.0, min(engine.samples, cache * tensor_parallel / sample))
        read = engine.weights + samples * sample
        return tokens / engines / samples * (STEP_SECONDS + read / (self.bandwidth * tensor_parallel))

    def scoring(self, tokens: float, parameters: int, devices: int) -> float:
        return 2 * parameters * tokens / (SCORING_USE * self.flops * devices)

    def training(self, tokens: float, parameters: int, devices: int, recomputed: float, half: bool) -> float:
        """Seconds of all steps over so many tokens, `recomputed` the part of the layers that run forward twice."""
        flops = self.flops * (1 if half else FULL_PRECISION)
        return (6 + 2 * recomputed) * parameters * tokens / (TRAINING_USE * flops * devices)


def assumptions(speed: Speed) -> str:
    return (
        f"assumed: {speed.flops / 1e12:.0f} TFLOP/s and {speed.bandwidth / 1e12:.2f} TB/s a device, of which training "
        f"uses {TRAINING_USE:.0%} and scoring {SCORING_USE:.0%}; responses and rows half as long as the longest; no "
        "waiting for the last sample, for loading or for saving; context, engine beside and "
        f"{1 - USABLE:.0%} of the memory are allowances"
    )


@dataclass(frozen=True)
class Run:
    """What a plan needs to know of a configuration."""

    module: Any
    """A training module whose model is not built."""
    batch_size: int
    length: int
    """Longest row, in tokens."""
    batches: int | None
    """Micro-batches of an epoch on a device, if the configuration says."""
    accumulate: int
    precision: str
    devices: int
    nodes: int
    sharded: bool
    shard_size: int | None = None
    """Devices over which a copy of the model is sharded; None is all."""
    engine: EngineConfig | None = None
    """Of a rollout callback."""
    reward: tuple[str, str] | None = None
    """Checkpoint and number format of its reward model."""
    samples: int | None = None
    """Drawn in an iteration, if the configuration says and the files are there."""
    response: int = 0
    """Longest, in tokens."""

    @property
    def world(self) -> int:
        return self.devices * self.nodes

    @property
    def shards(self) -> int:
        """Devices over which a copy of the model is split."""
        return min(self.shard_size or self.world, self.world) if self.sharded else 1

    @property
    def title(self) -> str:
        over = f", {self.shards} to a copy" if self.shards < self.world else ""
        spread = f"sharded (FSDP2{over})" if self.sharded else "a copy on each" if self.world > 1 else "whole"
        return (
            f"{self.module.checkpoint}: {self.footprint.num_parameters / 1e9:.2f} B parameters, {self.nodes} x "
            f"{self.devices} devices, {spread}; {self.precision}, micro-batches of {self.batch_size} x {self.length}"
        )

    @cached_property
    def footprint(self) -> Footprint:
        return footprint(self.module, self.batch_size, self.length, self.precision)

    @cached_property
    def engine_size(self) -> EngineSize | None:
        from transformers import AutoConfig

        if self.engine is None or self.engine.is_url:
            return None
        folder = Path(weights_directory(self.module.checkpoint))
        kind = stored_dtype(folder) if self.engine.dtype == "auto" else self.engine.dtype
        size = weight_bytes(kind)
        config = AutoConfig.from_pretrained(folder).get_text_config()
        context = self.engine.max_model_len or config.max_position_embeddings
        cache = cached_values(config) * max(size, 2)
        return EngineSize(count_parameters(folder) * size, cache, context, self.engine.max_num_seqs or 256)

    @cached_property
    def reward_parameters(self) -> int:
        return count_parameters(self.reward[0], scores=True) if self.reward else 0

    def phases(self, memory: int) -> list[Phase]:
        shards = self.shards
        copies = 1 if self.sharded else self.world
        found = [training(self.footprint, shards, copies, self.accumulate > 1)]
        if (engine := self.engine_size) is not None and self.engine is not None:
            reward = self.reward_parameters * (DTYPES[self.reward[1]].itemsize if self.reward else 0)
            parallel = self.engine.tensor_parallel_size
            found.append(sampling(self.footprint, shards, engine, memory, parallel, reward))
        return found

    def times(self, speed: Speed, phases: list[Phase]) -> Iterator[str]:
        """A line for each part of an iteration whose size the configuration says."""
        seconds = {}
        engine, parameters = self.engine_size, self.footprint.num_parameters
        if self.samples and engine is not None and self.engine is not None:
            tokens, parallel = self.samples * self.response * FILLED, self.engine.tensor_parallel_size
            cache = phases[-1].parts["KV cache"]
            seconds["sampling"] = speed.sampling(tokens, engine, cache, self.world // parallel, parallel)
            if self.reward:
                seconds["scoring"] = speed.scoring(tokens, self.reward_parameters, self.world)
        if self.batches:
            rows = self.batches * self.batch_size * self.world * (2 if isinstance(self.module, PairModule) else 1)
            half, every = not self.precision.startswith("32"), int(self.module.gradient_checkpointing)
            again = 1 / every if every else 0.0
            seconds["training"] = speed.training(rows * self.length * FILLED, parameters, self.world, again, half)
        for name, value in seconds.items():
            yield f"{name + ':':10} about {value / 3600:.2f} h an iteration"
        if self.engine is not None and not self.samples:
            yield "sampling:  its time is not known, as its problems cannot be read here"
