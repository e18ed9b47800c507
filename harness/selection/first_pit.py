"""From explored responses to preference pairs at their first pit (Self-Explore, arXiv:2404.10346, section 3.2)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.errors import InputError
from harness.grading.answer_protocols import PROTOCOLS
from harness.grading.extract import extract_answer
from harness.grading.latex_rules import hendrycks
from harness.grading.normalize import normalize
from harness.protocols import Selection
from harness.rollouts.explorations import Explored
from harness.search.step_explore import Continuation, Exploration, ExploredStep
from harness.selection.outcome_pairs import before_phrase
from harness.types import Completion, PreferencePair, Problem, Rollout, RolloutConfig

DROPPED = ("no pit", "no unused right continuation", "chosen used before", "rejected used before")
"""Why an explored response gives no pair."""


@dataclass(frozen=True)
class FirstPitPairs:
    """One pair for each explored response that has a pit.

    The steps before the pit end the prompt. Rejected is the pit; chosen is the shortest right continuation from the
    step before it that is not chosen already for the same problem, or, where the first step is the pit, the right
    response of the outcome pair. No text is chosen or rejected twice for a problem. The grader alone decides what is
    right, and a continuation that was cut at the token limit is never chosen.
    """

    span: Literal["step", "suffix", "whole"] = "step"
    """What is rejected: the pit alone, all from the pit on, or the whole response (then the prompt is the problem's and
    chosen a whole response too)."""
    cut_answer: str = ""
    """Cut rejected responses before this phrase, where text is left; matters for `suffix` and `whole`."""
    compat: Literal["none", "official_gsm8k", "official_math"] = "none"
    """Repeat what the released code does differently. Both: a continuation is right if its answer is, as a string, that
    of the chosen response, whatever the gold is, for which every step needs all its continuations; prefixes are
    rewritten to end in one newline, which the policy may never have sampled; problems are told apart by the first line
    of the prompt; cut continuations may be chosen. GSM8K also: the explored answer is not normalised and the chosen one
    is ("1,000" and "5." are never right), and a pit on the answer's line is rejected as an empty text. MATH: both are
    normalised and no values compared (1/4 is not 0.25), by the MATH repository's rules, of which the released
    `strip_string` has more; of several answers all count, not the first alone."""

    def __call__(
        self, rows: Sequence[Explored], render: Callable[[Problem], str]
    ) -> tuple[list[PreferencePair], dict[str, int]]:
        """The pairs, and how many explored responses gave none for which reason."""
        pairs: list[PreferencePair] = []
        dropped: Counter[str] = Counter(dict.fromkeys(DROPPED, 0))
        taken: dict[str, tuple[set[str], set[str], set[str]]] = {}
        for row in rows:
            prompt = render(row.problem)
            name = prompt.partition("\n")[0] if self.compat != "none" else row.problem.id
            continued, chosen_before, rejected_before = taken.setdefault(name, (set(), set(), set()))
            for outcome, exploration in zip(row.chosen, row.explorations, strict=True):
                if self.compat != "none":
                    exploration = with_official_verdicts(exploration, outcome, self.compat)
                found = self._pair(prompt, outcome, exploration, continued)
                if isinstance(found, str):
                    dropped[found] += 1
                    continue
                if found[1] in chosen_before or found[2] in rejected_before:
                    dropped["chosen used before" if found[1] in chosen_before else "rejected used before"] += 1
                    continue
                chosen_before.add(found[1])
                rejected_before.add(found[2])
                pairs.append(PreferencePair(*found, problem_id=row.problem.id))
        return pairs, dict(dropped)

    def _pair(
        self, prompt: str, outcome: str, exploration: Exploration, continued: set[str]
    ) -> tuple[str, str, str] | str:
        """Prompt, chosen and rejected, or why there is no pair; `continued` are the continuations chosen so far."""
        if (pit := exploration.pit) is None:
            return "no pit"
        steps = exploration.response.steps
        rejected = steps[pit]
        chosen = outcome
        if pit:
            best = self._best(exploration, pit, continued | {rejected})
            if best is None:
                return "no unused right continuation"
            continued.add(best)
            chosen = best
        before = "".join(steps[:pit])
        if self.span != "step":
            rejected = "".join(steps[pit:])
        if self.compat != "none":
            return official_texts(prompt + before, chosen, rejected, lines=self.compat == "official_gsm8k")
        rejected = before_phrase(rejected, self.cut_answer)
        if self.span == "whole":
            return prompt, (before + chosen if pit else chosen), before + rejected
        return prompt + before, chosen, rejected

    def _best(self, exploration: Exploration, pit: int, taken: set[str]) -> str | None:
        drawn: Sequence[Continuation] = next(
            (step.continuations for step in exploration.explored if step.num_steps == pit), ()
        )
        right = [
            c.completion.text
            for c in drawn
            if c.right and (c.completion.finish_reason == "stop" or self.compat != "none")
        ]
        return min((text for text in right if text and text not in taken), key=len, default=None)


@dataclass(frozen=True)
class PitPairs:
    """Pairs at the first pits of an iteration's own rollouts, drawn by `harness.search.ExploredSamples`.

    A pit is the first step of value 0; what begins with the steps before it is a continuation from there. Where the
    first step is the pit, the shortest right response of the problem is chosen.
    """

    first_pit: FirstPitPairs = FirstPitPairs()

    def __post_init__(self) -> None:
        if self.first_pit.compat != "none":
            raise InputError(
                f"first_pit.compat '{self.first_pit.compat}' repeats what the released code does with files of "
                "outcome pairs; use `harness explore` for it."
            )

    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        """The pairs, and how many responses have a pit and how many of them gave none for which reason."""
        rows = [self._explored(rollout) for rollout in rollouts]
        pairs, dropped = self.first_pit(rows, render)
        counts = {f"num_{reason.replace(' ', '_')}": float(number) for reason, number in dropped.items()}
        num_pits = sum(len(row.explorations) for row in rows)
        return pairs, {"num_rows": float(len(pairs)), "num_pits": float(num_pits), **counts}

    def _explored(self, rollout: Rollout) -> Explored:
        responses = [scored.response for scored in rollout.responses]
        right = {response.text for response, scored in zip(responses, rollout.responses, strict=True) if scored.correct}
        best = min(right, key=len, default="")
        found = []
        for response in dict.fromkeys(responses):
            if 0.0 not in response.step_values or response.text in right:
                continue
            pit = response.step_values.index(0.0)
            if not pit and not best:
                continue
            before = "".join(response.steps[:pit])
            drawn = tuple(
                Continuation(Completion(other.text[len(before) :], finish_reason=other.finish_reason), True)
                for other in responses
                if other.text in right and other.text.startswith(before)
            )
            found.append(Exploration(response, (ExploredStep(pit, drawn),) if pit else (), pit))
        return Explored(rollout.problem, (best,) * len(found), tuple(found))


OFFICIAL_PHRASE = "The answer is"


def with_official_verdicts(
    exploration: Exploration, chosen: str, compat: Literal["official_gsm8k", "official_math"]
) -> Exploration:
    """Decide anew, as the released code does when it forms pairs, which continuations are right: those whose answer is
    the string that the chosen response's answer is.

    For GSM8K a continuation's answer is its text after the first "The answer is", as it stands.

    Raises:
        InputError: some step lacks continuations, since its sampling was stopped at the first right one.
    """
    counts = {len(step.continuations) for step in exploration.explored}
    if len(counts) > 1:
        raise InputError(
            f"compat '{compat}' needs all continuations of every step, found steps with {sorted(counts)}; "
            "explore with search.at_once equal to search.samples and search.skip_answer false."
        )
    lines = compat == "official_gsm8k"
    gold = official_answer(chosen) if lines else math_answer(chosen)

    def right(text: str) -> bool:
        answer = text.partition(OFFICIAL_PHRASE)[2].strip() if lines else math_answer(text)
        return gold is not None and answer == gold

    explored = tuple(
        replace(step, continuations=tuple(replace(c, right=right(c.completion.text)) for c in step.continuations))
        for step in exploration.explored
    )
    pit = next((step.num_steps - 1 for step in explored if not step.sound), None)
    return replace(exploration, explored=explored, pit=pit)


def math_answer(text: str) -> str | None:
    """The normal form of a MATH answer as the released code reads it; None if there is none."""
    answer = extract_answer(text, PROTOCOLS["self_explore_math"])
    return None if answer is None else hendrycks(normalize(answer))


def official_answer(text: str) -> str | None:
    """The number after "The answer is" as the released GSM8K code normalises it; None if there is none."""
    found = re.search(rf"{OFFICIAL_PHRASE}:? *(-?[0-9.,]+)", text)
    if found is None:
        return None
    number = found[1].replace(",", "")
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"0{number}" if number.startswith(".") else number


def official_texts(prompt: str, chosen: str, rejected: str, lines: bool) -> tuple[str, str, str]:
    """The texts of a pair as the released code rewrites them; `lines` for its GSM8K recipe, whose steps are lines."""
    if lines:
        prompt = re.sub(r"[ \t]*\n\s*", "\n", prompt)
        rejected = rejected.strip() + "\n"
    while chosen.startswith("\n") and rejected.startswith("\n"):
        chosen, rejected = chosen[1:], rejected[1:]
    if OFFICIAL_PHRASE in rejected and "\n" in rejected:
        rejected = rejected.partition(OFFICIAL_PHRASE)[0]
    return prompt.rstrip("\n") + "\n", chosen, rejected
