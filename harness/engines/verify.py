"""Proof that an engine samples from the weights it claims to: no stale engine goes unnoticed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.engines import generate
from harness.errors import EngineError
from harness.models.fp8 import fp8_layers
from harness.models.weights import DTYPES, model_version
from harness.protocols import Engine
from harness.types import Completion, GenerationRequest, SamplingConfig

LONG_PROBE = 160
"""Tokens of the added probe: more than one block (128 tokens on a CPU) of vLLM's prefix cache, in which stale values
of earlier weights could hide."""
MAX_PROBE_TOKENS = 16
FLOAT32_TOLERANCE = 1e-3
LOW_PRECISION_TOLERANCE = 0.15


class StaleEngineError(EngineError):
    """The engine does not sample from the expected weights."""


@dataclass(frozen=True)
class SyncProof:
    """What was compared when an engine was shown to hold the training model's weights."""

    version: str
    num_prompts: int
    num_tokens: int
    """Tokens sampled for all prompts together."""
    longest_prompt: int
    """Tokens of the longest probe."""
    max_error: float
    """Largest difference over the prompts of the mean log-probability per token, in nats."""
    tolerance: float
    """The difference that was accepted."""
    answers: Answers
    """For the proof of the next sync."""


@dataclass(frozen=True)
class Answers:
    """What an engine answered to the probes, and what the training model of that time thinks of it."""

    runs: tuple[tuple[Completion, ...], ...]
    """The same probes twice: at the second time the prefix cache knows them, which may change the last bits."""
    logps: tuple[float, ...]
    """The model's summed log-probabilities of the tokens of the first run, in nats."""
    rounded: str
    """Fingerprint of the model's weights in the engine's number format."""


def verify_sync(
    engine: Engine,
    model: Any,
    prompts: Sequence[Sequence[int]],
    version: str,
    tolerance: float | None = None,
    before: SyncProof | None = None,
) -> SyncProof:
    """Compare the engine's greedy continuations of `prompts` with the training model's own forward pass.

    A further probe, made of the given prompts one after another, is longer than a block of vLLM's prefix cache, if the
    context allows it. Verify after every sync with the same prompts: values that an earlier check left in the cache
    are then found out too.

    One optimizer step moves log-probabilities by less than bfloat16 rounds them. So where the proof `before` was of
    other weights, the engine's answers are compared with those it gave then as well: if they have not moved by a tenth
    of what the model's have, it kept its old weights.

    Args:
        prompts: token ids; each must leave room for at least one token.
        version: fingerprint that the engine must report.
        tolerance: largest accepted difference of the mean log-probability per token; None is 1e-3 where engine and
            model are float32 (1e-6 is usual), and else 0.05 and four times what the engine's number format alone makes
            the model differ on these probes from itself in float32 (0.15 for a model that is not float32).
        before: the proof of the sync before, of the same engine by the same prompts.

    Raises:
        StaleEngineError: the version differs, or a probe's log-probabilities do, or they have not moved.
    """
    if engine.version != version:
        raise StaleEngineError(f"the engine holds weights '{engine.version}', expected are '{version}'.")
    probes = _probes(prompts, engine.max_context)
    sampling = SamplingConfig(temperature=0.0, max_tokens=MAX_PROBE_TOKENS)
    requests = [GenerationRequest(f"probe {i}", tuple(probe), sampling) for i, probe in enumerate(probes)]
    runs = (_answers(engine, requests), _answers(engine, requests))
    logps = _model_logps(model, requests, runs[0])
    lengths = [len(completion.token_ids) for completion in runs[0]]
    if tolerance is None:
        tolerance = _tolerance(engine, model, requests, runs[0], logps)
    errors = [abs(c.logp - logp) / n for c, logp, n in zip(runs[0], logps, lengths, strict=True)]
    worst = max(range(len(errors)), key=lambda i: errors[i] if errors[i] == errors[i] else float("inf"))
    if not errors[worst] <= tolerance:
        raise StaleEngineError(
            f"the engine says it holds weights '{version}', but its log-probabilities for a prompt of "
            f"{len(probes[worst])} tokens differ from the training model's by {errors[worst]:.2g} nats per token "
            f"(accepted: {tolerance:.2g})."
        )
    found = Answers(runs, tuple(logps), model_version(model, _format(engine)))
    if before is not None and before.version != version:
        _check_moved(before.answers, found, version)
    return SyncProof(version, len(probes), sum(lengths), max(map(len, probes)), errors[worst], tolerance, found)


def _check_moved(before: Answers, found: Answers, version: str) -> None:
    """Raise if the engine answers as it did, although its weights, as rounded, are others and the model's answers."""
    if before.rounded == found.rounded:
        return
    answers = found.runs[0]
    lengths = [len(completion.token_ids) for completion in answers]
    for run in before.runs:
        if any(old.token_ids != new.token_ids for old, new in zip(run, answers, strict=True)):
            continue
        moved = _root_mean_square((new.logp - old.logp for old, new in zip(run, answers, strict=True)), lengths)
        changes = (new - old for old, new in zip(before.logps, found.logps, strict=True))
        expected = _root_mean_square(changes, lengths)
        if moved < expected / 10:
            raise StaleEngineError(
                f"the engine says it holds weights '{version}', but answers as it did with the weights before: its "
                f"log-probabilities have moved by {moved:.2g} nats per token, the training model's by {expected:.2g}."
            )


def _root_mean_square(sums: Iterable[float], lengths: Sequence[int]) -> float:
    return math.sqrt(sum((value / n) ** 2 for value, n in zip(sums, lengths, strict=True)) / len(lengths))


def _format(engine: Engine) -> torch.dtype:
    return torch.bfloat16 if engine.dtype == "fp8" else DTYPES.get(engine.dtype, torch.float32)


def _tolerance(
    engine: Engine, model: Any, requests: Sequence[GenerationRequest], answers: Sequence[Completion], logps: list[float]
) -> float:
    dtype = _format(engine)
    if model.dtype != torch.float32 or not engine.dtype:
        return LOW_PRECISION_TOLERANCE
    if dtype == torch.float32:
        return FLOAT32_TOLERANCE
    eight_bits = fp8_layers(model) if engine.dtype == "fp8" else contextlib.nullcontext()
    with torch.autocast(model.device.type, dtype=dtype), eight_bits:
        rounded = _model_logps(model, requests, answers)
    return 0.05 + 4 * max(abs(a - b) / len(c.token_ids) for a, b, c in zip(rounded, logps, answers, strict=True))


def _answers(engine: Engine, requests: Sequence[GenerationRequest]) -> tuple[Completion, ...]:
    results = {result.key: result.completions[0] for result in generate(engine, requests)}
    return tuple(results[request.key] for request in requests)


def _probes(prompts: Sequence[Sequence[int]], max_context: int) -> list[list[int]]:
    if not prompts:
        raise ValueError("verify_sync needs at least one prompt")
    joined = [token for prompt in prompts for token in prompt]
    joined *= -(-LONG_PROBE // len(joined))
    longest = min(LONG_PROBE, max_context - MAX_PROBE_TOKENS)
    return [*map(list, prompts), *([joined[:longest]] if longest > 0 else [])]


@torch.no_grad()
def _model_logps(model: Any, requests: Sequence[GenerationRequest], answers: Sequence[Completion]) -> list[float]:
    """Summed log-probabilities of the sampled tokens, one forward pass per probe without padding or cache."""
    training = model.training
    model.eval()
    try:
        logps = []
        for request, answer in zip(requests, answers, strict=True):
            prompt, sampled = request.prompt_ids, answer.token_ids
            ids = torch.tensor([prompt + sampled], device=model.device)
            logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
            target = ids[0, len(prompt) :, None]
            logps.append(float(logits.log_softmax(-1).gather(1, target).sum()))
        return logps
    finally:
        model.train(training)
