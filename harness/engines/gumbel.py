"""Sampling from logits with a random generator for each row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.types import SamplingConfig


def choose_tokens(
    logits: torch.Tensor, settings: Sequence[SamplingConfig], generators: Sequence[torch.Generator | None]
) -> torch.Tensor:
    """Draw a token for each row: the likeliest where the row has no generator, else a sample.

    A sample is the argmax of the logits after temperature, min-p, top-k and top-p, in that order, plus Gumbel noise
    from the row's own generator, which makes it a draw from their softmax that no other row can influence.

    Args:
        logits: (B, V).
        settings: temperature, min_p, top_k and top_p of each row.
        generators: on the CPU; each advances by V draws.

    Returns:
        (B,) token ids.
    """
    logits = logits.float()
    chosen = logits.argmax(-1)
    sampled = [i for i, generator in enumerate(generators) if generator is not None]
    if not sampled:
        return chosen
    rows = torch.tensor(sampled, device=logits.device)
    temperature = torch.tensor([settings[i].temperature for i in sampled], device=logits.device)
    scores = logits[rows] / temperature[:, None]
    if any(settings[i].min_p for i in sampled):
        least = torch.tensor([settings[i].min_p for i in sampled], device=logits.device).log()
        scores = scores.masked_fill(scores < scores.amax(-1, keepdim=True) + least[:, None], -torch.inf)
    if any(settings[i].top_k or settings[i].top_p < 1 for i in sampled):
        scores = truncate(scores, [settings[i].top_k for i in sampled], [settings[i].top_p for i in sampled])
    # -log of an exponential variable has the Gumbel distribution.
    waits = torch.stack([torch.empty(logits.shape[1]).exponential_(generator=generators[i]) for i in sampled])
    chosen[rows] = (scores - waits.log().to(logits.device)).argmax(-1)
    return chosen


def penalize(logits: torch.Tensor, seen: Sequence[Sequence[int]], penalties: Sequence[float]) -> torch.Tensor:
    """Make the tokens of a row that it holds already less likely (`SamplingConfig.repetition_penalty`).

    Args:
        logits: (B, V).
        seen: token ids of each row.
        penalties: of each row; 1 changes nothing.
    """
    changed = logits.clone()
    for row, (ids, penalty) in enumerate(zip(seen, penalties, strict=True)):
        if penalty != 1:
            index = torch.tensor(sorted(set(ids)), device=logits.device)
            held = logits[row, index]
            changed[row, index] = torch.where(held > 0, held / penalty, held * penalty)
    return changed


def truncate(logits: torch.Tensor, top_k: Sequence[int], top_p: Sequence[float]) -> torch.Tensor:
    """Set to -inf all but the k highest logits of a row, then all but the fewest that hold a share p of what is left.

    Args:
        logits: (B, V).
        top_k: k of each row, 0 for all.
        top_p: p of each row, 1 for all.
    """
    size = logits.shape[1]
    ordered, index = logits.sort(dim=-1, descending=True, stable=True)
    k = torch.tensor([min(k, size) or size for k in top_k], device=logits.device)
    ordered = ordered.masked_fill(torch.arange(size, device=logits.device) >= k[:, None], -torch.inf)
    shares = ordered.softmax(-1)
    p = torch.tensor(top_p, device=logits.device)
    before = shares.cumsum(-1) - shares
    ordered = ordered.masked_fill((before >= p[:, None]) & (p[:, None] < 1), -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter(1, index, ordered)
