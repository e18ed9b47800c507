"""One step further: sample continuations, run their code, drop duplicates. Shared by all step-level searches."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from harness.search.steps import Steps
from harness.types import Completion, Execute, Execution, Generate, Problem, Response, SamplingConfig

State = Literal["open", "answered", "error", "no_answer", "too_long", "exhausted"]
"""Of a partial response: can go on ("open"), ends in an answer, too many code errors in a row, ended without an answer,
cut at the limit of tokens or steps, or all its continuations have ended ("exhausted", nodes of a tree only)."""


@dataclass(frozen=True)
class Trace:
    """A partial response and how its code fared."""

    response: Response = field(default_factory=Response)
    failed: tuple[bool, ...] = ()
    """For each step, whether its code ran into an error."""
    consecutive_errors: int = 0
    state: State = "open"
    error: str = ""
    """Of the last step's code."""


def expand(
    problem: Problem, traces: Sequence[Trace], sampling: SamplingConfig, steps: Steps, errors_threshold: int
) -> Generator[Any, Any, list[list[Trace]]]:
    """Continue each trace by one step, `sampling.n` times; return the distinct continuations in sample order.

    Steps that are not answers are run as code where the format has code; a trace with `errors_threshold` failed steps
    in a row is dead.
    """
    prefixes = tuple(trace.response for trace in traces)
    asked = replace(sampling, step_stop=steps.step_stop)
    replies = cast(list[list[Completion]], (yield Generate(problem, prefixes, asked)))
    groups = [
        [_classify(trace, completion, steps) for completion in distinct(completions)]
        for trace, completions in zip(traces, replies, strict=True)
    ]
    if steps.runs_code:
        running = [child for group in groups for child in group if child.state == "open"]
        programs = tuple(steps.program(child.response.steps, child.failed) for child in running)
        executions: list[Execution] = (yield Execute(problem, programs)) if programs else []
        done = iter([_ran(*pair, steps, errors_threshold) for pair in zip(running, executions, strict=True)])
        groups = [[next(done) if child.state == "open" else child for child in group] for group in groups]
    return groups


def distinct(completions: Sequence[Completion]) -> list[Completion]:
    """The first of each text."""
    first: dict[str, Completion] = {}
    for completion in completions:
        first.setdefault(completion.text, completion)
    return list(first.values())


def _classify(trace: Trace, completion: Completion, steps: Steps) -> Trace:
    response = trace.response.extend(completion)
    state: State = "open"
    if steps.answered(response):
        state = "answered"
        if response.finish_reason != "length":  # what is cut is graded as cut
            response = replace(response, finish_reason="stop")
    elif response.finished and steps.goes_on(response):
        # As text, since the tokens may end with an EOS that the next step must not see.
        response = response.prefix(len(response.steps))
    elif response.finished:
        state = "too_long" if response.finish_reason == "length" else "no_answer"
    return Trace(response, (*trace.failed, False), trace.consecutive_errors, state)


def _ran(trace: Trace, execution: Execution, steps: Steps, errors_threshold: int) -> Trace:
    response, failed = trace.response, execution.failed
    errors = trace.consecutive_errors + 1 if failed else 0
    if shown := steps.output(response.steps[-1], execution):
        response = response.insert(shown)
    state: State = "error" if failed and errors >= errors_threshold else "open"
    return Trace(response, (*trace.failed[:-1], failed), errors, state, execution.error)
