"""Direct preference optimisation and its relatives."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from harness.errors import InputError
from harness.models.checkpoints import check_checkpoint
from harness.models.losses import (
    PairLogps,
    PreferenceLossConfig,
    find_loss,
    needs_reference,
    preference_loss,
    sum_by_row,
)
from harness.models.shared_prefix import attention_inputs, supervised_tokens
from harness.models.token_stats import TokenStats, token_stats
from harness.models.weights import fingerprint, load_causal_lm, named_weights
from harness.modules.base import Sums
from harness.modules.pairs import PairModule
from harness.modules.reference import (
    ReferenceCache,
    Side,
    chunks,
    default_cache_dir,
    length_batches,
    logps_of_sides,
    reference_in_memory,
    reference_key,
    side_key,
    without_adapter,
)
from harness.progress import track

BATCHES_PER_FILE = 64
"""Batches of each rank after which precomputed log-probabilities are written to disk."""


class DPOModule(PairModule):
    """Learns from preference pairs without a reward model, against a fixed reference.

    Logs under `train/` and `val/`, averaged over pairs: `loss`; `rewards/chosen`, `rewards/rejected` (beta times the
    log-ratio to the reference); `rewards/margins`, `rewards/accuracies`; `logps/chosen`, `logps/rejected`, summed over
    a response; `lengths/chosen`, `lengths/rejected` in tokens; `entropy`, of the policy's next token, mean over the
    tokens of both responses; and `kl`, the mean per token of log ref - log policy over both responses, which estimates
    KL(reference || policy) where the reference drew them. Validation adds `val/accuracy` and the metrics of
    `harness.modules.pairs.margin_metrics` on the implicit rewards.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        losses: dict[str, float] | None = None,
        loss: PreferenceLossConfig = PreferenceLossConfig(),  # noqa: B008 - frozen
        reference: str = "precomputed",
        reference_cache: str | None = None,
        reference_batch_tokens: int = 16384,
        **options: Any,
    ) -> None:
        """
        Args:
            checkpoint: directory or hub id of the model to start from.
            losses: name -> weight of the losses to sum, `{sigmoid: 1.0}` if not given; `{sigmoid: 1.0, nll: 1.0}` adds
                the likelihood of the chosen responses. The path of a function is a name too
                (`harness.models.losses.PreferenceLoss`).
            loss: constants of the losses.
            reference: "precomputed" takes the initial weights, whose log-probabilities of all responses are computed
                before training and kept on disk, so no second model stays in memory; "frozen" keeps a copy of the
                initial weights; "iteration" takes the weights that an iteration starts from, whose own pairs it learns
                (online and iterative DPO), precomputed too; a directory or hub id is another model, precomputed. With
                `lora` the initial weights are the model's own without its updates.
            reference_cache: folder of precomputed log-probabilities; `harness/reference_logps` in the user's cache
                folder if not given. They are found again by the content of weights and tokens.
            reference_batch_tokens: padded tokens per batch and device while log-probabilities are precomputed.
            options: those of `SharedPrefixModule` and `TrainingModule`.
        """
        super().__init__(checkpoint, **options)
        self.losses = dict(losses or {"sigmoid": 1.0})
        self._needs_reference = any(needs_reference(find_loss(name)) for name in self.losses)
        self.loss_config = loss
        if not 0 <= loss.label_smoothing < 0.5:
            raise InputError(f"label_smoothing must be in [0, 0.5), found {loss.label_smoothing}.")
        if reference_batch_tokens < 1:
            raise InputError(f"reference_batch_tokens must be at least 1, found {reference_batch_tokens}.")
        self.frozen = reference == "frozen"
        self.of_iteration = reference == "iteration"
        self._iteration: dict[str, str] = {}
        """Which sides were scored last, and the fingerprint of the weights that scored them."""
        own = reference in ("precomputed", "frozen", "iteration")
        self.reference = self.checkpoint if own else check_checkpoint(reference)
        self.reference_cache = Path(reference_cache).expanduser() if reference_cache else default_cache_dir()
        self.reference_batch_tokens = reference_batch_tokens
        self.adapter_off = own and self.lora is not None and not self.of_iteration
        if self.adapter_off and self.lora is not None and self.lora.adapter is not None:
            raise InputError(
                "lora.adapter: the reference, the initial weights, would lack the updates gone on from; merge them "
                "first (harness merge) and give the result as checkpoint, or name a reference."
            )
        # In a list, so that the frozen weights do not become part of the module's parameters and checkpoints.
        self._reference_model: list[Any] = []

    def build_model(self) -> Any:
        return load_causal_lm(self.checkpoint, **self.load_options())

    @property
    def needs_reference(self) -> bool:
        return self._needs_reference

    @property
    def wants_reference(self) -> bool:
        return self.needs_reference and not self.frozen

    def configure_model(self) -> None:
        super().configure_model()
        if self.needs_reference and self.frozen and not self.adapter_off and not self._reference_model:
            self._reference_model.append(self.load_frozen(self.reference, compile_blocks=self.compile_blocks))

    @torch.no_grad()
    def score_sides(self, sides: Sequence[Side]) -> np.ndarray:
        """Log-probability of each side's response under the reference, from disk where it is known.

        All ranks must call it with the same sides: each computes a share of what is missing, the first writes it.
        """
        strategy = self.trainer.strategy
        precision = f"{self.dtype_name} {self.trainer.precision}"
        keys = [side_key(side) for side in sides]
        if self.of_iteration:
            key = f"{self._weights_of_iteration(keys)} {precision}".replace(" ", "-")
        else:
            key = strategy.broadcast(reference_key(self.reference, precision) if self.trainer.is_global_zero else "")
        cache = ReferenceCache(self.reference_cache / key)
        wanted = {key: number for number, key in enumerate(keys)}
        known: dict[bytes, float] = {}
        if self.trainer.is_global_zero:
            known = {k: v for k, v in cache.read().items() if k in wanted}
        known = strategy.broadcast(known)
        missing = [k for k in wanted if k not in known]
        rank_zero_info(
            f"reference {self.reference}: log-probabilities of {len(known)} responses reused from {cache.folder}, "
            f"{len(missing)} to compute"
        )
        if missing:
            known |= self._compute(missing, [sides[wanted[k]] for k in missing], cache)
        return np.array([known[k] for k in keys])

    def _compute(self, keys: Sequence[bytes], sides: Sequence[Side], cache: ReferenceCache) -> dict[bytes, float]:
        trainer = self.trainer
        found: dict[bytes, float] = {}
        batches = length_batches(sides, self.reference_batch_tokens)
        bar = track(len(sides), "reference log-probabilities")
        with self._scoring_model() as model, bar as progress:
            for part in chunks(batches, BATCHES_PER_FILE * trainer.world_size):
                members = [i for batch in part for i in batch]
                place = {i: n for n, i in enumerate(members)}
                values = torch.zeros(len(members), dtype=torch.float64, device=self.device)
                for group in chunks(part, trainer.world_size):
                    # Sharded weights are gathered by all ranks together, so a rank without a batch repeats one.
                    mine = group[min(trainer.global_rank, len(group) - 1)]
                    with trainer.precision_plugin.forward_context():
                        logps = logps_of_sides(model, [sides[i] for i in mine], self.device)
                    if trainer.global_rank < len(group):
                        values[[place[i] for i in mine]] = logps.double()
                    progress.advance(sum(len(batch) for batch in group))
                total = trainer.strategy.reduce(values, reduce_op="sum").tolist()
                new = {keys[i]: value for i, value in zip(members, total, strict=True)}
                if trainer.is_global_zero:
                    cache.add(new)
                found |= new
        return found

    def _weights_of_iteration(self, keys: Sequence[bytes]) -> str:
        """Fingerprint of the weights that score these sides: the model's, or those that scored the same ones before.

        A run that resumes within an iteration reads its pairs again when its weights have moved on.
        """
        sides = hashlib.sha256(b"".join(keys)).hexdigest()
        if self._iteration.get("sides") != sides:
            self._iteration = {"sides": sides, "weights": fingerprint(named_weights(self.model))}
        return self._iteration["weights"]

    @contextlib.contextmanager
    def _scoring_model(self) -> Iterator[Any]:
        if not self.of_iteration:
            with reference_in_memory(self, self.reference, self.adapter_off) as model:
                yield model
            return
        if fingerprint(named_weights(self.model)) != self._iteration["weights"]:
            raise InputError(
                f"the reference's log-probabilities are no longer in {self.reference_cache} and its weights are gone; "
                "resume from the checkpoint at the end of the iteration before."
            )
        training = self.model.training
        yield self.model.eval()
        self.model.train(training)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["reference_of_iteration"] = self._iteration

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._iteration = checkpoint.get("reference_of_iteration", {})

    def sums(self, batch: dict[str, Any]) -> Sums:
        sources, targets, sides = supervised_tokens(batch)
        num_sides = len(batch["lengths"])

        def tokens(model: Any, entropy: bool = False) -> TokenStats:
            inputs = attention_inputs(batch, model)
            return token_stats(model, batch["input_ids"], sources, targets, entropy=entropy, **inputs)

        def by_side(values: Tensor) -> Tensor:
            return sum_by_row(values, sides, num_sides)

        stats = tokens(self.model, entropy=self._due or not self.training)
        policy = by_side(stats.logps)
        with torch.no_grad():
            reference = self._reference_logps(batch, lambda model: by_side(tokens(model).logps), policy)
        lengths = by_side(torch.ones_like(sides, dtype=policy.dtype))
        pairs = PairLogps(*(side for values in (policy, reference, lengths) for side in values[batch["pairs"]]))
        weight = batch["weight"]
        loss = (preference_loss(pairs, self.losses, self.loss_config) * weight).sum()
        if stats.entropies is None:
            return Sums(loss, weight.sum())
        entropy = by_side(stats.entropies.detach()) / lengths
        rows = torch.stack([self.loss_config.beta * pairs.delta, weight, pairs.num_chosen - pairs.num_rejected], 1)
        return Sums(loss, weight.sum(), self._metrics(pairs, entropy[batch["pairs"]], weight), rows.detach())

    def _reference_logps(self, batch: dict[str, Any], logps: Callable[[Any], Tensor], policy: Tensor) -> Tensor:
        if not self.needs_reference:
            return torch.zeros_like(policy)
        if not self.frozen:
            if "reference_logps" not in batch:
                raise InputError(
                    "the batches lack `reference_logps`; precomputed references need PreferenceDataModule, set "
                    "`reference: frozen` with other data."
                )
            return batch["reference_logps"].to(policy.dtype)
        if self.adapter_off:
            with without_adapter(self.model) as model:
                return logps(model)
        model = self._reference_model[0]
        if model.device != self.device:
            self._reference_model[0] = model = model.to(self.device)
        return logps(model)

    @torch.no_grad()
    def _metrics(self, pairs: PairLogps, entropy: Tensor, weight: Tensor) -> dict[str, Tensor]:
        beta, margin = self.loss_config.beta, self.loss_config.beta * pairs.delta
        drift = pairs.chosen_ratio / pairs.num_chosen + pairs.rejected_ratio / pairs.num_rejected
        values = {
            "rewards/chosen": beta * pairs.chosen_ratio,
            "rewards/rejected": beta * pairs.rejected_ratio,
            "rewards/margins": margin,
            "rewards/accuracies": (margin > 0).float() + 0.5 * (margin == 0),
            "logps/chosen": pairs.chosen,
            "logps/rejected": pairs.rejected,
            "lengths/chosen": pairs.num_chosen,
            "lengths/rejected": pairs.num_rejected,
            "entropy": entropy.mean(0),
        }
        if self.needs_reference:
            values["kl"] = -drift / 2
        sums = {name: (value.detach() * weight).sum() for name, value in values.items()}
        return sums | {"accuracy": sums["rewards/accuracies"]}
