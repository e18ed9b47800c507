"""From scored rollouts to preference pairs of whole responses."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rapidfuzz.distance import Levenshtein

from harness.errors import InputError
from harness.protocols import Selection
from harness.selection.distinct import Distinct, cut_response, far_apart
from harness.store import read_rows, stable_hash
from harness.types import PreferencePair, Problem, Rollout, RolloutConfig, ScoredResponse


@dataclass(frozen=True)
class OutcomePairs:
    """Pairs of a response that is preferred by at least `margin` of reward and one of the same problem that is not.

    Each problem's pairs weigh 1 in all, so that a problem with many pairs does not outweigh the others.
    """

    max_per_problem: int = 4
    """Pairs taken of each problem, at random among those that differ enough."""
    margin: float = 0.5
    """Smallest difference of reward within a pair."""
    seed: int = 0
    extremes: bool = False
    """Pair the highest reward with the lowest alone, as self-rewarding models do (arXiv:2401.10020, section 2.3)."""

    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        rows: list[PreferencePair] = []
        num_paired = 0
        for rollout in rollouts:
            rewards = {scored.response.text: scored.reward for scored in rollout.responses}
            if self.extremes and rewards:
                best, worst = max(rewards, key=rewards.__getitem__), min(rewards, key=rewards.__getitem__)
                rewards = {text: rewards[text] for text in (best, worst)}
            pairs = [
                (better, worse)
                for better, high in rewards.items()
                for worse, low in rewards.items()
                if high - low >= self.margin and high > config.reward_threshold
            ]
            random.Random(stable_hash(self.seed, rollout.problem.id)).shuffle(pairs)
            pairs = pairs[: self.max_per_problem]
            prompt = render(rollout.problem)
            rows += [PreferencePair(prompt, b, w, 1 / len(pairs), rollout.problem.id) for b, w in pairs]
            num_paired += bool(pairs)
        return rows, {"num_rows": len(rows), "paired_share": num_paired / max(len(rollouts), 1)}


@dataclass(frozen=True)
class GoldPairs:
    """The worked solution of each problem against the policy's own samples (SPIN, arXiv:2401.01335).

    Its fixed point is a policy that writes as the solutions are written. Each problem's pairs weigh 1 in all.
    """

    max_per_problem: int = 1
    """Samples taken of each problem, in the order of sampling, copies and the solution itself left out."""

    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        rows: list[PreferencePair] = []
        for rollout in rollouts:
            problem = rollout.problem
            if not problem.solution:
                raise InputError(
                    f"problem '{problem.id}' has no worked solution to prefer; give problems with a 'solution', or "
                    "pair responses by their rewards (OutcomePairs)."
                )
            texts = dict.fromkeys(scored.response.text for scored in rollout.responses)
            samples = [text for text in texts if text != problem.solution][: self.max_per_problem]
            prompt = render(problem)
            rows += [PreferencePair(prompt, problem.solution, s, 1 / len(samples), problem.id) for s in samples]
        return rows, {"num_rows": len(rows), "same_share": 1 - len(rows) / max(len(rollouts) * self.max_per_problem, 1)}


@dataclass(frozen=True)
class OutcomePair(PreferencePair):
    """A pair of whole responses that knows the wrong one though only its beginning is rejected."""

    rejected_response: str = ""
    """The wrong response whole, or "" where `rejected` is all of it."""


@dataclass(frozen=True)
class DistancePairs:
    """Each distinct right response against a wrong one of the same problem, none of which is used twice (Self-Explore,
    arXiv:2404.10346, section 3.1).

    The paper takes the wrong response farthest in edit distance. Its released code does so for GSM8K; for MATH it takes
    the shortest of those beyond a bound, for the farthest are often endless repetitions.
    """

    distinct: Distinct
    """Which right responses are chosen, in which order; the supervised rows of the same stage if given the same."""
    rejected: Literal["farthest", "shortest_beyond"] = "farthest"
    beyond: tuple[float, ...] = (0.5, 0.4, 0.3)
    """Bounds of `shortest_beyond`, tried in turn before all wrong responses count: edit distance divided by the length
    of both texts together."""
    max_wrong: int | None = None
    """Look at no more than so many wrong responses, each of normalised edit distance above 0.2 to those before (24 in
    the MATH recipe); None looks at all."""
    cut_answer: str = ""
    """Cut rejected responses before this phrase ("The answer is" in the released code), where text is left."""

    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        rows: list[OutcomePair] = []
        counts: Counter[str] = Counter()
        for rollout in rollouts:
            right, wrong, _ = self.distinct.sides(rollout, config)
            pairs = self._matched(right, wrong)
            counts["num_without_right"] += not right
            counts["num_without_wrong"] += not wrong
            counts["num_paired"] += bool(pairs)
            prompt = render(rollout.problem)
            for chosen, rejected in pairs:
                whole = rejected.response.text
                text = before_phrase(whole, self.cut_answer)
                name = rollout.problem.id
                row = OutcomePair(prompt, chosen.response.text, text, problem_id=name)
                rows.append(row if text == whole else replace(row, rejected_response=whole))
        return rows, {"num_rows": len(rows), **counts}

    def paired(self, rollout: Rollout) -> list[tuple[str, ScoredResponse]]:
        """The chosen text and the rejected response, whole, of each pair, in the order of the rows."""
        right, wrong, _ = self.distinct.sides(rollout, RolloutConfig())
        return [(chosen.response.text, rejected) for chosen, rejected in self._matched(right, wrong)]

    def _matched(
        self, right: Sequence[ScoredResponse], wrong: Sequence[ScoredResponse]
    ) -> list[tuple[ScoredResponse, ScoredResponse]]:
        unused = list(wrong) if self.max_wrong is None else far_apart(wrong, 0.2)[: self.max_wrong]
        pairs = []
        for chosen in right:
            if not unused:
                break
            index = self._rejected(chosen.response.text, [scored.response.text for scored in unused])
            pairs.append((chosen, unused.pop(index)))
        return pairs

    def _rejected(self, chosen: str, unused: Sequence[str]) -> int:
        distances = [Levenshtein.distance(chosen, text) for text in unused]
        places = range(len(unused))
        if self.rejected == "farthest":
            return max(places, key=distances.__getitem__)
        for bound in self.beyond:
            if far := [i for i in places if distances[i] > bound * (len(chosen) + len(unused[i]))]:
                return min(far, key=lambda i: len(unused[i]))
        return min(places, key=lambda i: len(unused[i]))


class WrittenPairs:
    """The outcome pairs of a file that `harness rollout` wrote with `DistancePairs`.

    Raises:
        InputError: as `read_rows`; a pair's rejected response is in no rollout of its problem.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, list[OutcomePair]] = {}
        for row in read_rows(path, OutcomePair):
            self.rows.setdefault(row.problem_id, []).append(row)

    def paired(self, rollout: Rollout) -> list[tuple[str, ScoredResponse]]:
        """As `DistancePairs.paired`; a response that was cut behind its answer's line is cut there again."""
        found = []
        for row in self.rows.get(rollout.problem.id, ()):
            text = row.rejected_response or row.rejected
            like = [scored for scored in rollout.responses if scored.response.text.startswith(text)]
            if not like:
                raise InputError(
                    f"{self.path}: problem {rollout.problem.id}: no rollout begins with the rejected response "
                    f"{text!r:.80}; give the rollouts that these pairs were taken from."
                )
            scored = min(like, key=lambda scored: len(scored.response.text))
            found.append((row.chosen, scored if scored.response.text == text else cut_response(scored, len(text))))
        return found


def before_phrase(text: str, phrase: str) -> str:
    """The text up to the phrase, or all of it where the phrase is "", absent, or has nothing but blanks before it."""
    before = text.partition(phrase)[0] if phrase else text
    return before if before.strip() else text
