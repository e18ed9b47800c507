"""Proof that an engine samples from the weights it claims to: no stale engine goes unnoticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.engines import generate
from harness.engines.config import EngineError
from harness.protocols import Engine
from harness.types import Completion, GenerationRequest, SamplingConfig

LONG_PROBE = 160
"""Tokens of the added probe: more than one block (128 tokens on a CPU) of vLLM's prefix cache, in which stale values
of earlier weights could hide."""
MAX_PROBE_TOKENS = 16


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


def verify_sync(
    engine: Engine, model: Any, prompts: Sequence[Sequence[int]], version: str, tolerance: float = 1e-3
) -> SyncProof:
    """Compare the engine's greedy continuations of `prompts` with the training model's own forward pass.

    A further probe, made of the given prompts one after another, is longer than a block of vLLM's prefix cache, if the
    context allows it. Verify after every sync with the same prompts: values that an earlier check left in the cache
    are then found out too.

    Args:
        prompts: token ids; each must leave room for at least one token.
        version: fingerprint that the engine must report.
        tolerance: largest accepted difference of the mean log-probability per token. About 1e-5 is usual where engine
            and model are float32, 0.05 where one is bfloat16.

    Raises:
        StaleEngineError: the version differs, or a probe's log-probabilities do.
    """
    if engine.version != version:
        raise StaleEngineError(f"the engine holds weights '{engine.version}', expected are '{version}'.")
    probes = _probes(prompts, engine.max_context)
    sampling = SamplingConfig(temperature=0.0, max_tokens=MAX_PROBE_TOKENS)
    requests = [GenerationRequest(f"probe {i}", tuple(probe), sampling) for i, probe in enumerate(probes)]
    results = {result.key: result.completions[0] for result in generate(engine, requests)}
    errors = [
        abs(results[request.key].logp - expected) / len(results[request.key].token_ids)
        for request, expected in zip(requests, _model_logps(model, requests, results), strict=True)
    ]
    worst = max(range(len(errors)), key=lambda i: errors[i] if errors[i] == errors[i] else float("inf"))
    if not errors[worst] <= tolerance:
        raise StaleEngineError(
            f"the engine says it holds weights '{version}', but its log-probabilities for a prompt of "
            f"{len(probes[worst])} tokens differ from the training model's by {errors[worst]:.2g} nats per token "
            f"(accepted: {tolerance:.2g})."
        )
    num_tokens = sum(len(completion.token_ids) for completion in results.values())
    return SyncProof(version, len(probes), num_tokens, max(map(len, probes)), errors[worst])


def _probes(prompts: Sequence[Sequence[int]], max_context: int) -> list[list[int]]:
    if not prompts:
        raise ValueError("verify_sync needs at least one prompt")
    joined = [token for prompt in prompts for token in prompt]
    joined *= -(-LONG_PROBE // len(joined))
    longest = min(LONG_PROBE, max_context - MAX_PROBE_TOKENS)
    return [*map(list, prompts), *([joined[:longest]] if longest > 0 else [])]


@torch.no_grad()
def _model_logps(model: Any, requests: Sequence[GenerationRequest], results: dict[str, Completion]) -> list[float]:
    """Summed log-probabilities of the sampled tokens, one forward pass per probe without padding or cache."""
    training = model.training
    model.eval()
    try:
        logps = []
        for request in requests:
            prompt, sampled = request.prompt_ids, results[request.key].token_ids
            ids = torch.tensor([prompt + sampled], device=model.device)
            logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
            target = ids[0, len(prompt) :, None]
            logps.append(float(logits.log_softmax(-1).gather(1, target).sum()))
        return logps
    finally:
        model.train(training)
