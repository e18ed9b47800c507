"""Accuracy against the number of tokens, from one run: every response is cut at each budget and graded as it stands.

A response cut at a budget is what the same draw would be under that limit, because `max_tokens` ends a sample and
changes no token before its end. A cut response that states no answer is wrong, as it would be in a run with that limit;
only where it is asked for, an answer is forced: an open thought is ended, a given text is put behind it, and a few
tokens are drawn greedily (budget forcing, arXiv:2501.19393).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, cast

from harness.engines.completion import Decoder
from harness.errors import InputError
from harness.evals.evaluation import Evaluation
from harness.metrics.intervals import Estimate
from harness.metrics.summary import clusters_of, problem_metrics, summarize
from harness.prompts.chats import END_OF_THOUGHT, is_thinking
from harness.protocols import Search
from harness.rollouts.collect import collect, score
from harness.rollouts.dispatcher import Dispatcher
from harness.store import AppendLog, read_rows, stable_hash
from harness.types import (
    Completion,
    Generate,
    GenerationRequest,
    Problem,
    Response,
    Rollout,
    SamplingConfig,
    ScoredResponse,
)

FORCED = "forced.jsonl"
"""The forced answers of an evaluation's folder, so that none is drawn twice."""
FORCED_TOKENS = 32
"""Tokens of a forced answer at most."""
GROUP = 256
"""Problems whose responses are cut at a time."""
Metrics = Mapping[str, float | None]
OF_CUT_RESPONSES = ("accuracy", "pass@", "gpass@", "mgpass@", "maj@", "tokens", "truncated", "no_answer")
"""The metrics that are known of cut responses begin with these; their log-probabilities are not."""


@dataclass(frozen=True)
class Point:
    """An evaluation with every response cut at one number of tokens."""

    tokens: int
    metrics: dict[str, Estimate]
    forced: dict[str, Estimate] | None = None
    """With answers forced where a cut response states none."""


def budget_curve(
    rollouts: Iterable[Rollout], evaluation: Evaluation, dispatcher: Dispatcher, folder: Path
) -> list[Point]:
    """The metrics at each budget that the evaluation asks for.

    Args:
        rollouts: graded, of independent samples with their tokens; memory holds some of them at a time.
        dispatcher: over the engine that drew them; it draws only forced answers.
        folder: of the evaluation, in which forced answers are kept.

    Raises:
        InputError: a response has no tokens to cut, as from a server that gives text alone.
    """
    rows, problems = iter(rollouts), list[Problem]()
    found = {(budget, is_forced): list[Metrics]() for budget in evaluation.budgets for is_forced in (False, True)}
    with contextlib.ExitStack() as stack:
        search = None
        if evaluation.force_answer:
            log = stack.enter_context(AppendLog(folder / FORCED))
            search = Forcing(dispatcher, evaluation.force_answer, log)
        while group := list(itertools.islice(rows, GROUP)):
            problems += (rollout.problem for rollout in group)
            for budget in evaluation.budgets:
                cut = cut_at(group, budget, evaluation, dispatcher)
                found[budget, False] += (problem_metrics(rollout, evaluation.metrics) for rollout in cut)
                if search is not None:
                    forced = with_forced_answers(cut, evaluation, dispatcher, search)
                    found[budget, True] += (problem_metrics(rollout, evaluation.metrics) for rollout in forced)
    clusters = clusters_of(problems)

    def of_cut_responses(rows: Sequence[Metrics]) -> dict[str, Estimate]:
        return {k: value for k, value in summarize(rows, clusters).items() if k.startswith(OF_CUT_RESPONSES)}

    return [
        Point(
            budget,
            of_cut_responses(found[budget, False]),
            of_cut_responses(found[budget, True]) if evaluation.force_answer else None,
        )
        for budget in evaluation.budgets
    ]


def cut_at(rollouts: Sequence[Rollout], budget: int, evaluation: Evaluation, dispatcher: Dispatcher) -> list[Rollout]:
    """The rollouts as if no response could have more tokens than the budget; those that are cut are graded again."""
    parts = [_cut(rollout, budget, evaluation.sampling, dispatcher) for rollout in rollouts]
    graded = score(parts, dispatcher, grader=evaluation.grader)
    return [
        _put(rollout, graded_part, [_is_longer(row.response, budget) for row in rollout.responses])
        for rollout, graded_part in zip(rollouts, graded, strict=True)
    ]


def _cut(rollout: Rollout, budget: int, sampling: SamplingConfig, dispatcher: Dispatcher) -> Rollout:
    """The longer responses of a rollout, cut and without verdicts."""
    prompt, template = dispatcher.prompt_ids(rollout.problem), dispatcher.template
    # It held the budget of thoughts when it was drawn.
    asked = replace(sampling, stop=sampling.stop or template.stop, thinking_budget=None)
    decoder = Decoder(dispatcher.tokenizer, frozenset())
    found = []
    for row in rollout.responses:
        if not row.response.token_ids and row.response.text:
            raise InputError(
                f"problem '{rollout.problem.id}': its responses have no tokens to cut, as those of a server that gives "
                "text alone; leave out --budgets, or sample with an engine that gives tokens."
            )
        if _is_longer(row.response, budget):
            ids = row.response.token_ids[:budget]
            done = decoder.completion(GenerationRequest(rollout.problem.id, prompt, asked), ids, 0.0)
            found.append(ScoredResponse(Response(template.steps.split(done.text), done.finish_reason, done.token_ids)))
    return replace(rollout, responses=tuple(found))


def _is_longer(response: Response, budget: int) -> bool:
    return len(response.token_ids) > budget


def _put(rollout: Rollout, part: Rollout, chosen: Sequence[bool]) -> Rollout:
    """The rollout with the responses of another in the chosen places."""
    others = iter(part.responses)
    rows = (next(others) if one else row for row, one in zip(rollout.responses, chosen, strict=True))
    return replace(rollout, responses=tuple(rows))


def with_forced_answers(
    rollouts: Sequence[Rollout], evaluation: Evaluation, dispatcher: Dispatcher, search: Forcing
) -> list[Rollout]:
    """The rollouts with an answer forced of every response that was cut before it stated one."""
    chosen = {rollout.problem.id: [_lacks_answer(row) for row in rollout.responses] for rollout in rollouts}
    start = {
        rollout.problem.id: replace(rollout, responses=tuple(row for row in rollout.responses if _lacks_answer(row)))
        for rollout in rollouts
        if any(chosen[rollout.problem.id])
    }
    sampling = SamplingConfig(temperature=0.0, max_tokens=FORCED_TOKENS, stop=evaluation.sampling.stop)
    problems = [rollout.problem for rollout in start.values()]
    drawn = collect(problems, dispatcher, sampling, search=search, grader=evaluation.grader, start=start)
    forced = {rollout.problem.id: rollout for rollout in drawn}
    return [_put(rollout, forced.get(rollout.problem.id, rollout), chosen[rollout.problem.id]) for rollout in rollouts]


def _lacks_answer(row: ScoredResponse) -> bool:
    return row.response.finish_reason == "length" and row.status == "no_answer"


@dataclass(frozen=True)
class ForcedAnswer:
    """What was drawn behind one cut response."""

    key: str
    """Hash of all that decided it: the weights with their engine, the tokens before it, and the sampling."""
    completion: Completion


class Forcing:
    """The search that continues each response of a rollout to an answer.

    Args:
        text: what stands before the answer, behind the end of an open thought.
        log: holds the answers that were drawn before, and gets the new ones.
    """

    judges: ClassVar[bool] = False

    def __init__(self, dispatcher: Dispatcher, text: str, log: AppendLog) -> None:
        self.dispatcher, self.text, self.log = dispatcher, text, log
        self._made_by = dispatcher.provenance().drawn
        self._drawn = {row.key: row.completion for row in read_rows(log.path, ForcedAnswer)}

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        prompt = self.dispatcher.template.render(rollout.problem, self.dispatcher.tokenizer)
        begun = [self._opened(row.response, prompt) for row in rollout.responses]
        keys = [self._key(rollout, prefix, sampling) for prefix in begun]
        missing = {key: prefix for key, prefix in zip(keys, begun, strict=True) if key not in self._drawn}
        if missing:
            reply = yield Generate(rollout.problem, tuple(missing.values()), sampling)
            found = [
                # Engines differ in the last digits with the size of a batch.
                ForcedAnswer(key, replace(done, logp=round(done.logp, 3), token_logps=()))
                for key, [done] in zip(missing, cast(list[list[Completion]], reply), strict=True)
            ]
            self.log.extend(found)
            self._drawn |= {row.key: row.completion for row in found}
        return [prefix.extend(self._drawn[key]) for key, prefix in zip(keys, begun, strict=True)]

    def _opened(self, response: Response, prompt: str) -> Response:
        """The cut response, its thought ended, and the text from which on the answer is drawn."""
        end = f"\n{END_OF_THOUGHT}\n\n" if is_thinking(response.text, prompt) else "\n"
        whole = Response((response.text,), token_ids=response.token_ids)
        return whole.insert(end + self.text)

    def _key(self, rollout: Rollout, prefix: Response, sampling: SamplingConfig) -> str:
        ids = [self.dispatcher.prompt_ids(rollout.problem), self.dispatcher.response_ids(prefix)]
        return f"{stable_hash(self._made_by, sampling.identity(), ids):016x}"
