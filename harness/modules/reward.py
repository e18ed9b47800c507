"""Pairwise reward models."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.models.losses import bradley_terry_loss
from harness.models.reward_head import likelihood_rewards, load_likelihood_reward
from harness.models.shared_prefix import attention_inputs, last_tokens, supervised_tokens
from harness.models.weights import load_reward_model, reward_head, rewards_at
from harness.modules.base import Sums
from harness.modules.pairs import PairModule


class RewardModule(PairModule):
    """A scalar head on a language model, trained so that chosen responses score above rejected ones (Bradley-Terry).

    The reward of a sequence is read at its last token. Where pairs end after a step, it is the value of that step (a
    process preference model). Saved as a Hugging Face sequence-classification directory with one label; with
    `likelihood` as a causal language model's directory that holds `reward_head.safetensors` too.
    `harness.rewards.RewardModel` scores by either.

    Logs `loss`, `accuracy` (share of pairs ranked right, ties half), `margin` and `reward` (the mean over both sides)
    under `train/` and `val/`; with `likelihood` also `alpha`. Validation adds the metrics of
    `harness.modules.pairs.margin_metrics`: calibration, accuracy by margin, and the correlation with length, with a
    warning where rewards follow length more than the labels do.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        margin: float = 0.0,
        centring: float = 0.0,
        likelihood: Literal["none", "sum", "mean"] = "none",
        alpha: float = 0.5,
        head_dropout: float = 0.0,
        head_start: tuple[float, float] | None = None,
        **options: Any,
    ) -> None:
        """
        Args:
            checkpoint: directory or hub id of a causal LM, which gets a new head, or of a reward model.
            margin: reward difference demanded of every pair.
            centring: weight of the penalty that keeps rewards around zero.
            likelihood: add the model's own log-probability of the response to the head's value, summed over tokens or
                their mean, times a learned factor; the head then starts at zero.
            alpha: start value of that factor.
            head_dropout: share of the hidden state's entries that training drops before the head (0.1 in rStar-Math's
                released code).
            head_start: mean and standard deviation of a new head's weights ((5e-7, 1e-6) in that code, whose bias
                cancels in every pair); 0 and 0.01 / sqrt(width) if not given.
            options: those of `SharedPrefixModule` and `TrainingModule`.
        """
        super().__init__(checkpoint, **options)
        self.margin, self.centring = margin, centring
        self.likelihood, self.alpha = likelihood, alpha
        if not 0 <= head_dropout < 1:
            raise InputError(f"head_dropout is {head_dropout}; it must be at least 0 and below 1.")
        if likelihood != "none" and (head_dropout or head_start):
            raise InputError(
                "head_dropout and head_start are for a head alone; set `likelihood: none`, or leave them out."
            )
        if head_start is not None and head_start[1] < 0:
            raise InputError(f"head_start is {head_start}; its second number, a deviation, must not be negative.")
        self.head_dropout, self.head_start = head_dropout, head_start

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer, with a padding token other than EOS."""
        return load_tokenizer(self.checkpoint, distinct_pad=True)

    def measured_by(self, folder: Path) -> str:
        """The command that measures how the exported model ranks a policy's responses."""
        return f"harness eval --model POLICY --task TASK --n 8 --reward RewardModel --reward.checkpoint {folder} ..."

    def build_model(self) -> Any:
        if self.likelihood == "none":
            model = load_reward_model(self.checkpoint, head_start=self.head_start, **self.load_options())
            if self.head_dropout:
                reward_head(model).register_forward_pre_hook(self._drop)
            return model
        return load_likelihood_reward(
            self.checkpoint, likelihood=self.likelihood, alpha=self.alpha, **self.load_options()
        )

    def _drop(self, head: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.nn.functional.dropout(inputs[0], self.head_dropout, head.training), *inputs[1:])

    def rewards(self, batch: dict[str, Any]) -> Tensor:
        """Reward of each side (S,)."""
        ids, ends, inputs = batch["input_ids"], last_tokens(batch), attention_inputs(batch, self.model)
        if self.likelihood == "none":
            return rewards_at(self.model, ids, ends, **inputs)
        return likelihood_rewards(self.model, ids, supervised_tokens(batch), ends, **inputs)

    def sums(self, batch: dict[str, Any]) -> Sums:
        weight = batch["weight"]
        chosen, rejected = self.rewards(batch)[batch["pairs"]]
        loss = (bradley_terry_loss(chosen, rejected, self.margin, self.centring) * weight).sum()
        with torch.no_grad():
            difference = chosen - rejected
            metrics = {
                "accuracy": (((difference > 0).float() + 0.5 * (difference == 0)) * weight).sum(),
                "margin": (difference * weight).sum(),
                "reward": ((chosen + rejected) / 2 * weight).sum(),
            }
            long, short = batch["lengths"][batch["pairs"]]
            rows = torch.stack([difference, weight, (long - short).float()], 1)
        return Sums(loss, weight.sum(), metrics, rows)
