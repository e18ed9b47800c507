"""Direct preference optimisation and its relatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.errors import InputError
from harness.losses import (
    PREFERENCE_LOSSES,
    REFERENCE_FREE,
    PairLogps,
    PreferenceLossConfig,
    preference_loss,
    sum_by_row,
    supervised_positions,
    token_logps,
)
from harness.models import check_checkpoint, load_causal_lm, logits_at
from harness.modules.base import DType, LoRAConfig, Sums, TrainingModule
from harness.modules.optimizer import OptimizerConfig


class DPOModule(TrainingModule):
    """Learns from preference pairs without a reward model, against a frozen reference.

    Logs `loss`, `rewards/chosen`, `rewards/rejected` (beta times the log-ratio to the reference), `rewards/margins`,
    `rewards/accuracies`, `logps/chosen`, `logps/rejected` under `train/` and `val/`, and `val/accuracy`.
    """

    def __init__(
        self,
        checkpoint: str,
        dtype: DType = "float32",
        attn_implementation: str | None = None,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        lora: LoRAConfig | None = None,
        optimizer: OptimizerConfig | None = None,
        losses: dict[str, float] | None = None,
        loss: PreferenceLossConfig = PreferenceLossConfig(),  # noqa: B008 - frozen
        reference: str | None = None,
    ) -> None:
        """
        Args:
            checkpoint: directory or hub id of the model to start from.
            dtype: type of the weights; keep float32 and let `trainer.precision: bf16-mixed` compute in bfloat16.
            attn_implementation: "eager", "sdpa", "flex_attention" and so on; transformers' choice if not given.
            gradient_checkpointing: recompute activations in the backward pass, for less memory.
            compile: compile the transformer layers with torch.compile.
            lora: train low-rank updates only.
            optimizer: optimizer and learning-rate schedule.
            losses: name -> weight of the losses to sum, `{sigmoid: 1.0}` if not given; `{sigmoid: 1.0, nll: 1.0}` adds
                the likelihood of the chosen responses.
            loss: constants of the losses.
            reference: directory or hub id of the reference; the initial weights if not given, which with `lora` cost no
                memory.
        """
        super().__init__(checkpoint, dtype, attn_implementation, gradient_checkpointing, compile, lora, optimizer)
        self.losses = dict(losses or {"sigmoid": 1.0})
        self.loss_config = loss
        unknown = self.losses.keys() - PREFERENCE_LOSSES.keys()
        if unknown:
            raise InputError(f"unknown preference loss {sorted(unknown)}; known: {', '.join(PREFERENCE_LOSSES)}.")
        if not 0 <= loss.label_smoothing < 0.5:
            raise InputError(f"label_smoothing must be in [0, 0.5), found {loss.label_smoothing}.")
        self.reference = None if reference is None else check_checkpoint(reference)
        # In a list, lest the frozen weights become part of the module's parameters and checkpoints.
        self._reference_model: list[Any] = []

    def build_model(self) -> Any:
        return load_causal_lm(self.checkpoint, **self.load_options())

    @property
    def needs_reference_model(self) -> bool:
        shares_base = self.lora is not None and self.reference is None
        return not shares_base and not self.losses.keys() <= REFERENCE_FREE

    def configure_model(self) -> None:
        super().configure_model()
        if self._reference_model or not self.needs_reference_model:
            return
        options = self.load_options() | {"gradient_checkpointing": False}
        model: Any = load_causal_lm(self.reference or self.checkpoint, **options)
        model.requires_grad_(False).eval()
        self._prepare_blocks(model)
        self._reference_model.append(model)

    def sums(self, batch: dict[str, Any]) -> Sums:
        positions, targets, rows = supervised_positions(batch["labels"])

        def logps(model: Any) -> Tensor:
            values = token_logps(logits_at(model, batch["input_ids"], positions), targets)
            return sum_by_row(values, rows, len(batch["labels"]))

        policy = logps(self.model)
        with torch.no_grad():
            reference = self._reference_logps(logps, policy)
        lengths = sum_by_row(torch.ones_like(rows, dtype=policy.dtype), rows, len(batch["labels"]))
        pairs = PairLogps(*policy.chunk(2), *reference.chunk(2), *lengths.chunk(2))
        weight = batch["weight"]
        loss = (preference_loss(pairs, self.losses, self.loss_config) * weight).sum()
        return Sums(loss, weight.sum(), self._metrics(pairs, weight))

    def _reference_logps(self, logps: Any, policy: Tensor) -> Tensor:
        if self.losses.keys() <= REFERENCE_FREE:
            return torch.zeros_like(policy)
        if not self.needs_reference_model:
            with self.model.disable_adapter():
                return logps(self.model)
        model = self._reference_model[0]
        if model.device != self.device:
            self._reference_model[0] = model = model.to(self.device)
        return logps(model)

    @torch.no_grad()
    def _metrics(self, pairs: PairLogps, weight: Tensor) -> dict[str, Tensor]:
        beta, margin = self.loss_config.beta, self.loss_config.beta * pairs.delta
        values = {
            "rewards/chosen": beta * pairs.chosen_ratio,
            "rewards/rejected": beta * pairs.rejected_ratio,
            "rewards/margins": margin,
            "rewards/accuracies": (margin > 0).float() + 0.5 * (margin == 0),
            "logps/chosen": pairs.chosen,
            "logps/rejected": pairs.rejected,
        }
        sums = {name: (value.detach() * weight).sum() for name, value in values.items()}
        return sums | {"accuracy": sums["rewards/accuracies"]}
