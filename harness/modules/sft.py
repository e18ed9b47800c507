"""Supervised fine-tuning."""

from __future__ import annotations

import contextlib
from typing import Any

from torch import Tensor

from harness.errors import InputError
from harness.models.losses import sft_loss, supervised_positions
from harness.models.shared_prefix import attention_inputs
from harness.models.token_stats import token_stats
from harness.models.weights import load_causal_lm
from harness.modules.base import Sums, TrainingModule


class SFTModule(TrainingModule):
    """Maximises the likelihood of the responses, averaged over the tokens of each optimizer step.

    Logs `train/loss`, `train/accuracy` (share of tokens predicted exactly), `train/num_tokens`,
    `train/tokens_per_second`, `val/loss` and `val/accuracy`; with `router_aux_loss` also `train/router_aux_loss`.
    """

    drops_out = True

    def __init__(self, checkpoint: str, router_aux_loss: float = 0.0, **options: Any) -> None:
        """
        Args:
            checkpoint: directory or hub id of the model to start from.
            router_aux_loss: factor of the loss that keeps a mixture's experts equally loaded (arXiv:2101.03961,
                equation 4, as transformers computes it, over padding too); 0 is without, whatever the model's
                configuration says.
            options: those of `TrainingModule`.
        """
        super().__init__(checkpoint, **options)
        if not 0 <= router_aux_loss < float("inf"):
            raise InputError(f"router_aux_loss is {router_aux_loss}; it must be a number of at least 0.")
        self.router_aux_loss = router_aux_loss

    def build_model(self) -> Any:
        model = load_causal_lm(self.checkpoint, **self.load_options())
        if self.router_aux_loss and not hasattr(model.config.get_text_config(), "router_aux_loss_coef"):
            raise InputError(
                f"router_aux_loss: {type(model).__name__} has no such loss in transformers; leave the option out."
            )
        return model

    def sums(self, batch: dict[str, Any]) -> Sums:
        positions, targets, _ = supervised_positions(batch["labels"])
        inputs = attention_inputs(batch, self.model)
        seen = self._due or not self.training
        balance: list[Tensor] = []
        with contextlib.ExitStack() as stack:
            if self.router_aux_loss and self.training:
                inputs["output_router_logits"] = True
                hook = self.model.register_forward_hook(lambda _, __, output: balance.append(output.aux_loss))
                stack.callback(hook.remove)
            stats = token_stats(self.model, batch["input_ids"], positions, targets, top=seen, **inputs)
        weights = batch["weights"].flatten()[positions + 1]
        loss, weight = sft_loss(stats.logps, weights)
        metrics = {"accuracy": ((stats.top == targets) * weights).sum()} if seen else {}
        for value in balance:  # a mean over the batch, so its part of a step's is as large as the batch's
            loss = loss + self.router_aux_loss * value * weight
            metrics |= {"router_aux_loss": value.detach() * weight} if seen else {}
        return Sums(loss, weight, metrics)
