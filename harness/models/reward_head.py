"""Rewards that add a learned head to the policy's own log-probability of a response.

score = alpha x log-probability + head(hidden state of the last token). The head starts at zero, so at first responses
rank by likelihood; on small models that ranks better than a bare head. Saved as a causal language model's directory
with the file `reward_head.safetensors` beside it: engines and transformers open it as the language model it still is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness.errors import InputError
from harness.models.losses import sum_by_row
from harness.models.token_stats import token_stats
from harness.models.weights import REWARD_HEAD_FILE, load_causal_lm, plain_model

Likelihood = Literal["sum", "mean"]


class RewardHead(nn.Module):
    """A scalar head, and the factor `alpha` (1,) of the log-probability."""

    def __init__(self, hidden_size: int, likelihood: Likelihood, alpha: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.score = nn.Linear(hidden_size, 1, bias=False, dtype=dtype)
        nn.init.zeros_(self.score.weight)
        # Not a scalar: those cannot be sharded.
        self.alpha = nn.Parameter(torch.tensor([alpha], dtype=dtype))


def has_reward_head(checkpoint: str | Path) -> bool:
    """Whether the directory was saved with such a head."""
    return (Path(checkpoint) / REWARD_HEAD_FILE).is_file()


def load_likelihood_reward(
    checkpoint: str | Path, *, likelihood: Likelihood | None = None, alpha: float = 0.5, **options: Any
) -> Any:
    """Load a causal language model in train mode with its `reward_head`, a new one where the directory has none.

    Args:
        checkpoint: directory or hub id.
        likelihood: what a new head is for; None demands one on disk.
        alpha: start value in a new head.
        options: as `load_causal_lm`.

    Raises:
        InputError: as `load_causal_lm`; no head, or one trained with the other kind of likelihood.
    """
    model: Any = load_causal_lm(checkpoint, **options)
    size, dtype = model.config.get_text_config().hidden_size, model.dtype
    if not has_reward_head(checkpoint):
        if likelihood is None:
            raise InputError(f"{checkpoint}: no {REWARD_HEAD_FILE} there; it is not a reward with a likelihood.")
        model.reward_head = RewardHead(size, likelihood, alpha, dtype)
        return model
    from safetensors import safe_open

    with safe_open(Path(checkpoint) / REWARD_HEAD_FILE, framework="pt") as file:
        saved: Any = (file.metadata() or {}).get("likelihood")
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if likelihood not in (None, saved):
        raise InputError(
            f"{checkpoint}: its reward head was trained with `likelihood: {saved}`, not {likelihood}; give {saved}, or "
            f"remove {REWARD_HEAD_FILE} to start a new head."
        )
    model.reward_head = RewardHead(size, saved, alpha, dtype)
    model.reward_head.load_state_dict(weights)
    return model


def likelihood_rewards(
    model: nn.Module,
    input_ids: Tensor,
    supervised: tuple[Tensor, Tensor, Tensor],
    ends: Tensor,
    before: Tensor | None = None,
    **inputs: Any,
) -> Tensor:
    """Rewards of S sides, by a model with a `reward_head`.

    Args:
        model: from `load_likelihood_reward`.
        input_ids: (B, T).
        supervised: (N,) flat positions whose logits predict the responses' tokens, the tokens, and each token's side.
        ends: (S,) flat position of each side's last token.
        before: (S,) the side whose tokens come before this side's in its response (its own number if none do): a
            reward counts them too, and so judges a response up to each of its steps.
        inputs: further arguments of the model's forward.

    Returns:
        (S,) in float32.
    """
    sources, targets, sides = supervised
    head = plain_model(model).reward_head
    caught: list[Tensor] = []

    def look(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        # Within the model's forward, where the weights of a sharded model are whole.
        caught.extend((head.score(args[0].flatten(0, 1).index_select(0, ends)).flatten().float(), head.alpha.float()))

    hook = plain_model(model).get_output_embeddings().register_forward_pre_hook(look)
    try:
        stats = token_stats(model, input_ids, sources, targets, **inputs)
    finally:
        hook.remove()
    values, alpha = caught
    logps = sum_by_row(stats.logps, sides, len(ends))
    counts = sum_by_row(torch.ones_like(targets, dtype=logps.dtype), sides, len(ends))
    if before is not None:
        logps, counts = _accumulated(logps, before), _accumulated(counts, before)
    return alpha * (logps if head.likelihood == "sum" else logps / counts.clamp(min=1)) + values


def _accumulated(values: Tensor, before: Tensor) -> Tensor:
    total: list[Tensor] = []
    for side, earlier in enumerate(before.tolist()):
        total.append(values[side] if earlier == side else values[side] + total[earlier])
    return torch.stack(total)
