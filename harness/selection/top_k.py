"""From scored rollouts to rows for supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.protocols import Selection
from harness.selection.ranked import Dedup, build_pool, caps, response_of, taken
from harness.types import Problem, Rollout, RolloutConfig, SFTExample


@dataclass(frozen=True)
class TopK:
    """The best distinct responses of each problem whose reward is above the threshold.

    With the outcome as reward and a threshold between 0 and 1 these are the correct ones (STaR, ReST-EM, RFT).
    """

    rows_per_problem: float | None = None
    """Take per problem the smallest number of responses that gives this many rows per problem on average (B-STaR)."""
    max_per_problem: int = 64
    """At most so many of each problem (ReST-EM and Self-Explore take 10 and 8)."""
    dedup: Dedup = "before_cap"
    """"after_cap" lets copies use up places, as the released B-STaR code does."""
    keep_copies: bool = False
    """Keep equal responses, which shows what dropping them is good for."""
    keep_cut: bool = False
    """Keep responses that reached the token limit, which teach the policy to stop in mid-sentence."""
    keep_unanswered: bool = False
    """Keep responses in which no answer was found, whatever their reward; the released B-STaR code drops them."""
    with_gold: bool = False
    """Pool the solution written by a person with reward 1, of problems with a response left (released B-STaR code)."""
    seed: int = 0
    """Of the order among equal rewards."""

    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        dedup: Dedup = "after_cap" if self.keep_copies else self.dedup
        pool = build_pool(
            rollouts,
            dedup=dedup,
            with_gold=self.with_gold,
            keep_cut=self.keep_cut,
            keep_unanswered=self.keep_unanswered,
            seed=self.seed,
        )
        above = pool.num_above(np.array([config.reward_threshold]))
        target = None if self.rows_per_problem is None else round(self.rows_per_problem * len(rollouts))
        cap = caps(pool, above, target, self.max_per_problem)
        rows: list[SFTExample] = []
        num_wrong = 0
        for index, (ranked, places) in enumerate(zip(pool.ranked, above[0], strict=True)):
            chosen = ranked[: min(int(places), int(cap[0]))]
            if not chosen:
                continue
            rollout = rollouts[index]
            prompt = render(rollout.problem)
            seen: set[str] = set()
            for scored in (response_of(rollout, number) for number in chosen):
                text = scored.response.text
                if text in seen and not self.keep_copies:
                    continue
                seen.add(text)
                num_wrong += not scored.correct
                rows.append(SFTExample(prompt, text, problem_id=rollout.problem.id))
        selected = taken(pool.num_unique, above, cap)
        return rows, {
            "num_rows": len(rows),
            "cap": int(cap[0]),
            "wrong_share": num_wrong / max(len(rows), 1),
            "empty_share": float((selected == 0).mean()) if len(rollouts) else 0.0,
        }
