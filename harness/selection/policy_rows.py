"""From scored rollouts to rows of policy-gradient training: the credit is given here, where whole groups are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.metrics.monitors import describe_rewards
from harness.objectives.credit import CreditConfig, Samples, advantages, check_group_size, overlong_penalty
from harness.objectives.objective import Objective
from harness.protocols import Selection
from harness.streams import Lazy
from harness.types import PolicyExample, Problem, Rollout, RolloutConfig, SamplingConfig, ScoredResponse

ROW_CHOICES = (
    "credit", "binary_reward", "keep", "drop_copies", "refill", "mask_truncated", "overlong_limit", "overlong_buffer",
    "denominator", *(field.name for field in fields(CreditConfig)),
)  # fmt: skip
"""Choices of an objective that decide its rows; all others are the loss's."""


@dataclass(frozen=True)
class PolicyRows:
    """Responses as they were sampled, each with the advantage that an objective gives it.

    A problem's advantages are made of all its responses, also of those that do not become rows.
    """

    objective: Objective

    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        """Rows, and `num_rows`, `wrong_share`, `advantage_mean`, `advantage_std`, `advantage_max`,
        `advantage_right`, `advantage_wrong` (means), `zero_spread_share` (problems whose rewards are all equal),
        `num_truncated`, `num_copies`, `mean_tokens_right` and `mean_tokens_wrong`.

        Raises:
            InputError: the samples or their rewards are not what the objective needs.
        """
        prompts: list[str] = []
        parts: list[_Columns] = []
        for rollout in rollouts:
            self._check(rollout)
            prompts.append(render(rollout.problem))
            parts.append(_columns(rollout.responses))
        columns = _joined(parts)
        sizes = np.array([len(part.rewards) for part in parts], dtype=np.int64)
        groups, firsts = np.repeat(np.arange(len(sizes)), sizes), sizes.cumsum() - sizes
        correct, truncated, copies = columns.correct, columns.truncated, columns.copies
        samples = self._samples(columns, groups, config.reward_threshold)
        credit = advantages(self.objective.credit, samples, self.objective)
        keep = self._kept(samples, credit)
        if self.objective.mask_truncated:
            keep &= ~truncated
        if self.objective.drop_copies:
            keep &= ~copies
        if len(groups) and not credit[keep].any():
            raise InputError(
                f"credit '{self.objective.credit}' is 0 for every row that is kept of {describe_rewards(rollouts)}; "
                "sample more responses to each problem, other problems, or choose a credit that learns from equal "
                "rewards (reinforce, nsr)."
            )

        def row(i: int) -> PolicyExample:
            owner = int(groups[i])
            rollout = rollouts[owner]
            scored = rollout.responses[i - firsts[owner]]
            return PolicyExample(
                prompt=prompts[owner],
                response=scored.response.text,
                token_ids=scored.response.token_ids,
                advantage=float(credit[i]),
                token_logps=scored.response.token_logps,
                reward=float(samples.rewards[i]),
                correct=scored.correct,
                temperature=rollout.sampling.temperature,
                problem_id=rollout.problem.id,
                weights=rollout.weights,
            )

        rows = Lazy(row, np.flatnonzero(keep).tolist())  # with their tokens they take more memory than all else
        counts = {
            "num_rows": float(len(rows)),
            "wrong_share": int((~correct[keep]).sum()) / max(len(rows), 1),
            "advantage_mean": _mean(credit),
            "advantage_std": float(credit.std()) if len(groups) else 0.0,
            "advantage_max": float(np.abs(credit).max(initial=0.0)),
            "advantage_right": _mean(credit[correct]),
            "advantage_wrong": _mean(credit[~correct]),
            "zero_spread_share": 1 - len(np.unique(groups[samples.spread])) / max(len(rollouts), 1),
            "num_truncated": float(truncated.sum()),
            "num_copies": float(copies.sum()),
            "mean_tokens_right": _mean(samples.lengths[correct]),
            "mean_tokens_wrong": _mean(samples.lengths[~correct]),
        }
        return rows, counts

    @property
    def max_rounds(self) -> int:
        """Times that the problems of an iteration may be drawn anew to replace those that teach nothing."""
        return self.objective.refill

    def teaches(self, rollout: Rollout, config: RolloutConfig) -> bool:
        """Whether the responses to a problem differ in reward, so that it need not be replaced."""
        groups = np.zeros(len(rollout.responses), dtype=np.int64)
        return bool(self._samples(_columns(rollout.responses), groups, config.reward_threshold).spread.any())

    def _samples(self, columns: _Columns, groups: np.ndarray, threshold: float) -> Samples:
        lengths, rewards = columns.lengths, columns.rewards.copy()
        if self.objective.binary_reward:
            rewards, threshold = (rewards > threshold).astype(float), 0.5
        if self.objective.overlong_limit:
            rewards += overlong_penalty(lengths, self.objective.overlong_limit, self.objective.overlong_buffer)
        return Samples(rewards, groups, lengths, columns.logps, threshold)

    def _kept(self, samples: Samples, credit: np.ndarray) -> np.ndarray:
        trained = credit != 0 if self.objective.denominator == "trained" else np.ones(len(credit), dtype=bool)
        match self.objective.keep:
            case "all":
                return trained
            case "mixed":
                return trained & samples.spread
            case "solved":
                return trained & (samples.total((samples.rewards > samples.threshold).astype(float)) > 0)
            case "positive":
                return trained & (credit > 0)

    def check_sampling(self, sampling: SamplingConfig) -> None:
        """Raise `InputError` if nothing could be learnt from independent samples drawn so."""
        self._check_distribution(sampling, "the scheduler: each problem")
        check_group_size(self.objective.credit, sampling.n, self.objective)

    def identity(self) -> dict[str, Any]:
        """What decides the rows; another loss of the same rows goes on with the iterations of a run."""
        return {name: getattr(self.objective, name) for name in (*ROW_CHOICES, "on_policy", "needs_engine")}

    def _check_distribution(self, sampling: SamplingConfig, where: str) -> None:
        shaped = {
            "top_p": (sampling.top_p, sampling.top_p < 1),
            "top_k": (sampling.top_k, sampling.top_k > 0),
            "min_p": (sampling.min_p, sampling.min_p > 0),
            "repetition_penalty": (sampling.repetition_penalty, sampling.repetition_penalty != 1),
            "thinking_budget": (sampling.thinking_budget or 0, sampling.thinking_budget is not None),
            "temperature": (sampling.temperature, sampling.temperature == 0),
        }
        for name, (value, wrong) in shaped.items():
            if wrong and self.objective.on_policy:
                raise InputError(
                    f"{where} is sampled with {name} {value:g}, which draws from another distribution than the "
                    "policy's, so no ratio or gradient would be right; sample with temperature 1 and all else off, or "
                    "choose the objective RFT."
                )
        if self.objective.needs_engine and sampling.temperature != 1:
            raise InputError(
                f"{where} is sampled at temperature {sampling.temperature:g}, but engines report log-probabilities at "
                "temperature 1; sample at 1, or use old_logps: recomputed without a correction."
            )

    def _check(self, rollout: Rollout) -> None:
        where = f"problem '{rollout.problem.id}'"
        self._check_distribution(rollout.sampling, where)
        for scored in rollout.responses:
            response = scored.response
            if response.inserted:
                raise InputError(
                    f"{where}: a response holds text that the policy did not sample (the output of a program), which "
                    "has no log-probability; use a search that inserts none."
                )
            if not response.token_ids:
                raise InputError(
                    f"{where}: a response has no token ids, without which it cannot be trained on as sampled; draw it "
                    "again with vllm or transformers (servers that give text only will not do)."
                )
            if self.objective.needs_engine and len(response.token_logps) != len(response.token_ids):
                raise InputError(
                    f"{where}: a response has no log-probability for each token (an older file, or a server that gives "
                    "none); draw it again, or use old_logps: recomputed without a correction."
                )


@dataclass(frozen=True)
class _Columns:
    """Numbers of R responses, (R,) each."""

    rewards: np.ndarray
    lengths: np.ndarray
    """In tokens."""
    logps: np.ndarray
    correct: np.ndarray
    truncated: np.ndarray
    copies: np.ndarray
    """Whether the text is that of an earlier response to the same problem."""


def _columns(responses: Sequence[ScoredResponse]) -> _Columns:
    """Of the responses to one problem."""
    seen: set[str] = set()
    copies = [scored.response.text in seen or seen.add(scored.response.text) for scored in responses]  # type: ignore[func-returns-value]
    return _Columns(
        np.array([scored.reward for scored in responses], dtype=float),
        np.array([len(scored.response.token_ids) for scored in responses], dtype=np.int64),
        np.array([scored.response.logp for scored in responses], dtype=float),
        np.array([scored.correct for scored in responses], dtype=bool),
        np.array([scored.response.finish_reason == "length" for scored in responses], dtype=bool),
        np.array(copies, dtype=bool),
    )


def _joined(parts: Sequence[_Columns]) -> _Columns:
    """The columns of several problems as one."""
    return _Columns(
        *(np.concatenate([getattr(part, f.name) for part in parts or [_columns(())]]) for f in fields(_Columns))
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
