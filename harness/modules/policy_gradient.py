"""Policy gradients on a model's own rollouts: every objective of `harness.objectives` in one module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from harness.errors import InputError
from harness.models.shared_prefix import attention_inputs, supervised_tokens
from harness.models.token_stats import TokenStats, token_stats
from harness.models.weights import load_causal_lm, model_version
from harness.modules.base import Sums
from harness.modules.logps import TokenLogpCache
from harness.modules.prefixes import SharedPrefixModule
from harness.modules.reference import default_cache_dir, reference_in_memory, reference_key, side_key
from harness.objectives.objective import Objective
from harness.objectives.penalties import adapted, kl_loss
from harness.objectives.surrogate import PolicyTokens, ratios, surrogate_loss
from harness.progress import track


class PolicyGradientModule(SharedPrefixModule):
    """Learns from sampled responses and their advantages, as an objective says.

    Logs under `train/`, averaged over the sampled tokens of a step: `loss`; `entropy`; `advantage`; `logp/right` and
    `logp/wrong` (of tokens with a positive and with a negative advantage); with old log-probabilities `ratio`,
    `ratio_max`, `clip_low` and `clip_high` (shares of tokens whose ratio is beyond a bound and whose advantage would
    push it on) and `kl_old` (k3 estimate of KL(old || current), whose samples these are); with the engine's
    `engine_gap`, `engine_gap_max` and `engine_k3` (of trainer against engine, for the same weights where old
    log-probabilities are known); with a reference `kl`; and `entropy_coefficient` where it adapts.
    """

    def __init__(
        self,
        checkpoint: str,
        objective: Objective,
        *,
        reference_cache: str | None = None,
        logps_batch_tokens: int = 16384,
        **options: Any,
    ) -> None:
        """
        Args:
            checkpoint: directory or hub id of the model to start from, and the reference of a KL penalty.
            objective: a preset of `harness.objectives`, any of its choices overridden, or `Objective` with all of them.
            reference_cache: folder of the reference's log-probabilities; `harness/reference_logps` in the user's cache
                folder if not given. Those of the old policy lie in the run directory.
            logps_batch_tokens: tokens per batch and device while log-probabilities are computed before an iteration.
            options: those of `SharedPrefixModule` and `TrainingModule`.
        """
        super().__init__(checkpoint, **options)
        self.objective = objective
        self.reference_cache = Path(reference_cache).expanduser() if reference_cache else default_cache_dir()
        if logps_batch_tokens < 1:
            raise InputError(f"logps_batch_tokens must be at least 1, found {logps_batch_tokens}.")
        self.logps_batch_tokens = logps_batch_tokens
        self.entropy_coefficient = objective.entropy_coefficient
        """Of the entropy bonus; an adaptive one changes it after every optimizer step."""
        self._bonus_applies = objective.entropy == "bonus"
        self._entropy_sums: list[Tensor] = []
        self._step_maxima: dict[str, Tensor] = {}

    def build_model(self) -> Any:
        return load_causal_lm(self.checkpoint, **self.load_options())

    def setup(self, stage: str) -> None:
        super().setup(stage)
        attach = getattr(getattr(self.trainer, "datamodule", None), "attach_policy", None)
        if attach is None:
            raise InputError("PolicyGradientModule learns from sampled rows; set `data: PolicyDataModule`.")
        attach(self.objective, self.score_rows)

    # Log-probabilities that are fixed during an iteration.

    def score_rows(self, rows: Any, batches: Any) -> Mapping[str, list[np.ndarray]]:
        """Log-probabilities of rows' sampled tokens under the old policy and the reference, as far as needed.

        From disk where they are known. All ranks must call it with the same rows.

        Raises:
            InputError: the weights that drew the rows are neither known nor those of the model.
        """
        found: dict[str, list[np.ndarray]] = {}
        if self.objective.needs_old and self.objective.old_logps == "recomputed":
            found["old"] = self._old_logps(rows, batches)
        if self.objective.kl != "none":
            found["reference"] = self._reference_logps(rows, batches)
        return found

    @property
    def _precision(self) -> str:
        return f"{self.dtype_name} {self.trainer.precision}"

    def _old_logps(self, rows: Any, batches: Any) -> list[np.ndarray]:
        """Each row's under the weights that drew it: computed when those are the model's own, else from disk."""
        values: dict[int, np.ndarray] = {}
        own = ""
        for weights in dict.fromkeys(rows.weights):
            name = f"{weights} {self._precision} at {rows.temperature:g}".replace(" ", "-")
            folder = Path(self.trainer.default_root_dir) / "old_logps" / name
            wanted = [i for i in range(len(rows)) if rows.weights[i] == weights]
            known = self._known(TokenLogpCache(folder), rows, wanted)
            missing = [i for i in wanted if i not in known]
            if missing:
                own = own or model_version(self.model)
                if weights != own:
                    raise InputError(
                        f"{len(missing)} rows were drawn by weights {weights or 'unknown'}, whose log-probabilities "
                        f"are not in {folder}, and the model's are {own} now; resume from the checkpoint before this "
                        "iteration, or use old_logps: engine."
                    )
                known |= self._compute(self.model, rows, batches, missing, TokenLogpCache(folder), "old policy")
            values |= known
        return [values[i] for i in range(len(rows))]

    def _reference_logps(self, rows: Any, batches: Any) -> list[np.ndarray]:
        strategy = self.trainer.strategy
        precision = f"{self._precision} tokens"
        if rows.temperature != 1:
            precision += f" at {rows.temperature:g}"
        key = strategy.broadcast(reference_key(self.checkpoint, precision) if self.trainer.is_global_zero else "")
        cache = TokenLogpCache(self.reference_cache / key)
        known = self._known(cache, rows, range(len(rows)))
        missing = [i for i in range(len(rows)) if i not in known]
        if missing:
            with reference_in_memory(self, self.checkpoint, adapter_off=self.lora is not None) as model:
                known |= self._compute(model, rows, batches, missing, cache, "reference")
        return [known[i] for i in range(len(rows))]

    def _known(self, cache: TokenLogpCache, rows: Any, wanted: Sequence[int]) -> dict[int, np.ndarray]:
        """What the first rank finds on disk, on all ranks."""
        known: dict[int, np.ndarray] = {}
        if self.trainer.is_global_zero:
            stored = cache.read()
            known = {i: stored[key] for i in wanted if (key := _row_key(rows, i)) in stored}
        return self.trainer.strategy.broadcast(known)

    @torch.no_grad()
    def _compute(
        self, model: Any, rows: Any, batches: Any, missing: Sequence[int], cache: TokenLogpCache, whose: str
    ) -> dict[int, np.ndarray]:
        """A pass over the groups that hold missing rows, each rank over a share of them."""
        trainer = self.trainer
        rank_zero_info(f"log-probabilities of {len(missing)} rows under the {whose} to compute")
        lacking = set(missing)
        items = [n for n, item in enumerate(batches.items) if lacking.intersection(item.rows)]
        found: dict[int, np.ndarray] = {}
        training = model.training
        model.eval()
        with track(len(missing), f"log-probabilities under the {whose}") as progress:
            for part in _groups_of(list(_by_tokens(items, batches, self.logps_batch_tokens)), trainer.world_size):
                # Sharded weights are gathered by all ranks together, so a rank without a batch repeats one.
                mine = part[min(trainer.global_rank, len(part) - 1)]
                batch = self.on_before_batch_transfer(batches.collate(mine), 0)
                batch = trainer.datamodule.transfer_batch_to_device(batch, self.device, 0)  # type: ignore[attr-defined]
                with trainer.precision_plugin.forward_context():
                    logps = self._token_stats(model, batch).logps
                counts = batch["num_sampled"].tolist()
                members = [i for n in mine for i in batches.items[n].rows]
                values = [row.cpu().numpy() for row in logps.float().split(counts)]
                found.update(zip(members, values, strict=True))
                progress.advance(sum(i in lacking for n in set().union(*map(set, part)) for i in batches.items[n].rows))
        model.train(training)
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, found)
            found = {i: values for part in parts for i, values in part.items()}
        if trainer.is_global_zero:
            cache.add({_row_key(rows, i): found[i] for i in missing})
        return {i: found[i] for i in missing}

    # The loss.

    def _token_stats(self, model: Any, batch: dict[str, Any], entropy: bool = False) -> TokenStats:
        """Of the sampled tokens, at the temperature they were drawn at."""
        sources, targets, _ = supervised_tokens(batch)
        inputs = attention_inputs(batch, model)
        return token_stats(
            model,
            batch["input_ids"],
            sources,
            targets,
            entropy=entropy,
            temperature=batch["temperature"],
            **inputs,
        )

    def sums(self, batch: dict[str, Any]) -> Sums:
        objective = self.objective
        seen = self._due or not self.training
        stats = self._token_stats(self.model, batch, entropy=seen or objective.entropy != "none")
        policy, rows = stats.logps, _rows(batch)
        engine = batch.get("engine_logps")
        old, shaped = self._old(batch, policy), batch.get("token_advantages")
        tokens = PolicyTokens(policy, batch["advantages"], rows, old, engine, shaped)
        losses = surrogate_loss(tokens, objective)
        if objective.kl not in ("none", "k1_reward"):
            ratio = ratios(tokens, objective.ratio) if objective.kl == "k3_ratio" else None
            losses = losses + objective.kl_coefficient * kl_loss(policy, batch["reference_logps"], objective.kl, ratio)
        if stats.entropies is not None and objective.entropy != "none":
            if self._bonus_applies:
                losses = losses - self.entropy_coefficient * stats.entropies
            self._watch_entropy(stats.entropies, batch)
        loss = (losses * batch["token_weights"][rows]).sum()
        weight = policy.new_tensor(float(batch["step_denominator"]))
        if not seen or stats.entropies is None:
            return Sums(loss, weight)
        with torch.no_grad():
            return Sums(loss, weight, self._metrics(tokens, stats.entropies.detach(), batch))

    def _old(self, batch: dict[str, Any], policy: Tensor) -> Tensor | None:
        if not self.objective.needs_old:
            return None
        match self.objective.old_logps:
            case "recomputed":
                return batch["old_logps"]
            case "engine":
                return batch["engine_logps"]
            case "current":
                return policy.detach()

    def _watch_entropy(self, entropy: Tensor, batch: dict[str, Any]) -> None:
        """Adapt the bonus at the end of an optimizer step to the mean entropy of all its tokens."""
        if self.objective.entropy != "adaptive" or not self.training:
            return
        self._entropy_sums.append(torch.stack([entropy.detach().sum(), entropy.new_tensor(float(len(entropy)))]))
        if batch["ends_step"]:
            sums, self._entropy_sums = torch.stack(self._entropy_sums).sum(0), []
            total, count = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
            mean, target = total / max(count, 1), self.objective.entropy_target
            self.entropy_coefficient = adapted(self.entropy_coefficient, mean, target, self.objective.entropy_step)
            self._bonus_applies = mean <= target

    def _metrics(self, tokens: PolicyTokens, entropy: Tensor, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Sums over the batch's tokens; `finished_metrics` divides them by their number."""
        advantage, policy = tokens.advantage, tokens.policy.detach()
        positive, negative = advantage > 0, advantage < 0
        found = {
            "tokens": policy.new_tensor(float(len(policy))),
            "entropy": entropy.sum(),
            "advantage": advantage.sum(),
            "tokens/right": positive.sum().float(),
            "tokens/wrong": negative.sum().float(),
            "logp/right": (policy * positive).sum(),
            "logp/wrong": (policy * negative).sum(),
        }
        if tokens.old is not None:
            ratio = (policy - tokens.old).exp()
            beyond = ratios(tokens, self.objective.ratio).detach() if self.objective.ratio != "none" else ratio
            found |= {
                "ratio": ratio.sum(),
                "clip_low": (negative & (beyond < 1 - self.objective.clip_low)).sum().float(),
                "clip_high": (positive & (beyond > 1 + self.objective.clip_high)).sum().float(),
                "kl_old": kl_loss(tokens.old, policy, "k3").sum(),
            }
            self._raise_maximum("ratio_max", ratio)
        if tokens.engine is not None:
            drawn = policy if tokens.old is None else tokens.old
            gap = (drawn - tokens.engine).abs()
            found |= {"engine_gap": gap.sum(), "engine_k3": kl_loss(tokens.engine, drawn, "k3").sum()}
            self._raise_maximum("engine_gap_max", gap)
        if "reference_logps" in batch:
            found["kl"] = kl_loss(policy, batch["reference_logps"], "k3").sum()
        return found

    def _raise_maximum(self, name: str, values: Tensor) -> None:
        largest = values.max() if len(values) else values.new_zeros(())
        self._step_maxima[name] = torch.maximum(self._step_maxima.get(name, largest), largest)

    def finished_metrics(self, totals: dict[str, Tensor]) -> dict[str, Tensor]:
        """Means over tokens from sums over tokens, and the maxima of the step on all devices."""
        sizes = {
            "logp/right": totals.pop("tokens/right").clamp(min=1e-12),
            "logp/wrong": totals.pop("tokens/wrong").clamp(min=1e-12),
        }
        count = totals.pop("tokens").clamp(min=1e-12)
        loss = totals.pop("loss")
        means = {name: value / sizes.get(name, count) for name, value in totals.items()}
        maxima, self._step_maxima = self._step_maxima, {}
        for name, value in maxima.items():
            means[name] = self.trainer.strategy.reduce(value, reduce_op="max").double()
        if self.objective.entropy == "adaptive":
            means["entropy_coefficient"] = torch.tensor(self.entropy_coefficient)
        return {"loss": loss, **means}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["entropy_bonus"] = (self.entropy_coefficient, self._bonus_applies)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.entropy_coefficient, self._bonus_applies = checkpoint["entropy_bonus"]


def _rows(batch: dict[str, Any]) -> Tensor:
    """Row of each sampled token (N,)."""
    counts = batch["num_sampled"]
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


def _row_key(rows: Any, row: int) -> bytes:
    return side_key((rows.ids[row], rows.starts[row]))


def _by_tokens(items: Sequence[int], batches: Any, most: int) -> Iterator[list[int]]:
    """Items in batches of at most so many tokens, longest first: the first needs most memory."""
    batch: list[int] = []
    tokens = 0
    for n in sorted(items, key=lambda n: -batches.items[n].length):
        if batch and tokens + batches.items[n].length > most:
            yield batch
            batch, tokens = [], 0
        batch.append(n)
        tokens += batches.items[n].length
    if batch:
        yield batch


def _groups_of(batches: Sequence[list[int]], size: int) -> Iterator[Sequence[list[int]]]:
    for start in range(0, len(batches), size):
        yield batches[start : start + size]
