"""Rows that differ: right responses with other equations, or with texts far enough apart (rejection fine-tuning)."""

from __future__ import annotations

import itertools
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rapidfuzz.distance import Levenshtein

from harness.grading.exact import rational
from harness.grading.expression import ParseError
from harness.grading.parse import parse
from harness.protocols import Selection
from harness.rollouts.verdicts import grade_pairs
from harness.types import Problem, Rollout, RolloutConfig, ScoredResponse, SFTExample

EQUATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class AnswerLine:
    """Responses must end with the line that states their answer, which keeps out those that ramble on or break off.

    What follows the first line with the phrase is cut off, and the grader reads again what is left (the MATH recipe of
    Self-Explore's released code; it cuts both right and wrong responses).
    """

    phrase: str = "The answer is"
    protocol: str = "self_explore_math"
    """How the grader finds the answer in a text that was cut."""
    grader: str = "strict"

    def __call__(self, problem: Problem, responses: Sequence[ScoredResponse]) -> list[ScoredResponse]:
        """The responses with the phrase, cut behind its line."""
        kept = [scored for scored in responses if self.phrase in scored.response.text]
        ends = [self._end(scored.response.text) for scored in kept]
        cut = [i for i, scored in enumerate(kept) if scored.response.text[ends[i] :].strip()]
        texts = [(problem, kept[i].response.text[: ends[i]]) for i in cut]
        for i, (_, text), verdict in zip(cut, texts, grade_pairs(texts, self.protocol, self.grader), strict=True):
            kept[i] = replace(
                cut_response(kept[i], len(text)),
                answer=verdict.answer,
                correct=verdict.correct,
                reward=float(verdict.correct),
                status=verdict.status,
            )
        return kept

    def _end(self, text: str) -> int:
        newline = text.find("\n", text.index(self.phrase))
        return len(text) if newline < 0 else newline


def cut_response(scored: ScoredResponse, count: int) -> ScoredResponse:
    """The response as if it had ended after so many characters; its verdict stays."""
    response = scored.response
    starts = itertools.accumulate(map(len, response.steps), initial=0)
    steps = tuple(step[: count - start] for step, start in zip(response.steps, starts, strict=False) if start < count)
    return replace(scored, response=replace(response, steps=steps, finish_reason="stop", step_values=(), step_ends=()))


@dataclass(frozen=True)
class Distinct(ABC):
    """Takes at most so many right responses of each problem that differ from one another, in the order of sampling.

    With the outcome as reward and a threshold between 0 and 1 "right" is the grader's verdict.
    """

    max_per_problem: int = 8
    answer_line: AnswerLine | None = None
    """Take only responses that end with their answer's line; None takes all that ended before the token limit."""
    reject_cut: bool = False
    """Count responses that reached the token limit as wrong, as the released GSM8K recipe of Self-Explore does, whose
    rejected responses are therefore often endless repetitions; otherwise they are left out."""

    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        rows: list[SFTExample] = []
        counts: Counter[str] = Counter()
        for rollout in rollouts:
            right, _, reasons = self.sides(rollout, config)
            counts.update(reasons)
            counts["num_empty"] += not right
            prompt = render(rollout.problem)
            rows += [SFTExample(prompt, scored.response.text, problem_id=rollout.problem.id) for scored in right]
        return rows, {"num_rows": len(rows), **counts}

    def sides(
        self, rollout: Rollout, config: RolloutConfig
    ) -> tuple[list[ScoredResponse], list[ScoredResponse], Counter[str]]:
        """The distinct right responses, all texts of wrong ones once, and how many were left out for which reason."""
        usable = rollout.responses
        if self.answer_line is not None:
            usable = tuple(self.answer_line(rollout.problem, usable))
        ended = [scored for scored in usable if scored.response.text and (self.reject_cut or not _cut(scored))]
        reasons = Counter(num_without_end=len(rollout.responses) - len(ended))
        seen: set[str] = set()
        right: list[ScoredResponse] = []
        wrong: list[ScoredResponse] = []
        for scored in ended:
            if scored.response.text not in seen:
                seen.add(scored.response.text)
                good = scored.reward > config.reward_threshold and not _cut(scored)
                (right if good else wrong).append(scored)
        reasons["num_copies"] = len(ended) - len(seen)
        kept = self.distinct(right, reasons)
        reasons["num_over_cap"] = max(0, len(kept) - self.max_per_problem)
        return kept[: self.max_per_problem], wrong, reasons

    @abstractmethod
    def distinct(self, right: Sequence[ScoredResponse], reasons: Counter[str]) -> list[ScoredResponse]:
        """The responses to keep, before the cap; counts in `reasons` what it leaves out."""


def _cut(scored: ScoredResponse) -> bool:
    """Whether the response broke off at the token limit."""
    return scored.response.finish_reason != "stop"


@dataclass(frozen=True)
class DistinctEquations(Distinct):
    """One response for each list of equations (RFT, arXiv:2308.01825, section 3.3; GSM8K in Self-Explore).

    A response with a wrong equation is left out. Of those with the same equations the one farthest in edit distance
    from the other lists' representatives is kept, compared one after the other in the order of sampling as in the
    released code, whose order is that of a set of strings and changes from run to run. Responses without any equation
    have the same list.
    """

    pattern: str = r"<<([^<>]*)>>"
    """Regular expression with one group, the equation; the default is GSM8K's calculator annotation."""

    def distinct(self, right: Sequence[ScoredResponse], reasons: Counter[str]) -> list[ScoredResponse]:
        kept: dict[tuple[str, ...], ScoredResponse] = {}
        for scored in right:
            equations = tuple(found.replace(" ", "") for found in re.findall(self.pattern, scored.response.text))
            if not all(map(holds, equations)):
                reasons["num_wrong_equation"] += 1
                continue
            if equations not in kept:
                kept[equations] = scored
                continue
            reasons["num_same_equations"] += 1
            others = [other.response.text for key, other in kept.items() if key != equations]
            if _sum_of_distances(scored, others) > _sum_of_distances(kept[equations], others):
                kept[equations] = scored
        return list(kept.values())


def _sum_of_distances(scored: ScoredResponse, others: Iterable[str]) -> int:
    return sum(Levenshtein.distance(scored.response.text, other) for other in others)


def holds(equation: str) -> bool:
    """Whether both sides of an equation in numbers are the same to within 0.001; nothing is ever evaluated as code."""
    left, sign, right = equation.rpartition("=")
    if not sign or "=" in left:
        return False
    try:
        values = rational(parse(left)), rational(parse(right))
    except ParseError:
        return False
    return None not in values and abs(values[0] - values[1]) < EQUATION_TOLERANCE  # type: ignore[operator]


@dataclass(frozen=True)
class DistinctTexts(Distinct):
    """Responses whose normalised edit distance to all kept before is above a bound (MATH in Self-Explore)."""

    min_distance: float = 0.2
    compat: Literal["none", "official"] = "none"
    """"official" normalises by `len(a) + len(b) // 2`, as the released code does for want of brackets."""

    def distinct(self, right: Sequence[ScoredResponse], reasons: Counter[str]) -> list[ScoredResponse]:
        kept = far_apart(right, self.min_distance, self.compat)
        reasons["num_too_near"] = len(right) - len(kept)
        return kept


def far_apart(
    responses: Sequence[ScoredResponse], least: float, compat: Literal["none", "official"] = "none"
) -> list[ScoredResponse]:
    """Keep each response that is farther than `least` from all kept before."""
    kept: list[ScoredResponse] = []
    for scored in responses:
        if all(is_farther(scored.response.text, other.response.text, least, compat) for other in kept):
            kept.append(scored)
    return kept


def is_farther(a: str, b: str, least: float, compat: Literal["none", "official"] = "none") -> bool:
    """Whether the Levenshtein distance by the mean length of the texts, 0 for equal ones and at most 2, is above it.

    A distance is computed no further than it takes to know, which is a fifth of the time for texts of 1,200 characters.
    """
    size = max(len(a) + len(b) // 2 if compat == "official" else (len(a) + len(b)) / 2, 1)
    enough = max(int(least * size), 0) + 1
    return Levenshtein.distance(a, b, score_cutoff=enough) / size > least
