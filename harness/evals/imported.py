"""Samples of other programs as an evaluation of ours: graded again, comparable, shown by the report."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.evals.foreign import ForeignSample, foreign_samples
from harness.evals.rows import TaskData
from harness.evals.run import git_commit, summary_of, versions
from harness.evals.samples import RESULTS, SAMPLES, Sample
from harness.grading.answer_protocols import find_answer_protocol
from harness.grading.graders import named as find_grader
from harness.locks import only_writer
from harness.metrics.summary import MetricConfig, evaluate
from harness.prompts.templates import PromptTemplate
from harness.rollouts.dispatcher import INDEPENDENT
from harness.rollouts.verdicts import grade_pairs
from harness.store import file_hash, sealed, stable_hash, to_dict, write_json, write_rows
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse

UNMEASURED = ("tokens", "steps", "entropy")
"""Metrics of tokens, which the files do not hold."""


@dataclass(frozen=True)
class Import:
    """What is read, and as what."""

    files: Sequence[Path]
    task: str
    """Name of the task, as which the results are filed."""
    data: TaskData | None
    """The task's own rows, whose problems the samples are matched with; None takes the problems from the files."""
    template: PromptTemplate
    """Its rules say where a response's answer is; nothing is asked."""
    grader: str
    model: str = ""
    """Name of what drew the samples."""


def import_evaluation(wanted: Import, output: Path) -> tuple[dict[str, Any], int, int]:
    """Grade the samples of files and write `results.json` and `samples.jsonl.gz`.

    Returns:
        The results; how many samples have a verdict on file; how many of those differ from the grader's.

    Raises:
        InputError: a file cannot be read, a question is none of the task's, problems have different numbers of samples,
            or the directory holds results already.
    """
    if (output / RESULTS).exists():
        raise InputError(f"{output}: holds the results of an evaluation; choose another output, or delete it.")
    samples = [sample for file in wanted.files for sample in foreign_samples(file)]
    if not samples:
        raise InputError(f"{', '.join(map(str, wanted.files))}: holds no samples.")
    problems = matched(samples, wanted)
    groups: dict[str, list[int]] = {}
    for i, problem in enumerate(problems):
        groups.setdefault(problem.id, []).append(i)
    check_even(groups, samples)
    verdicts = grade_pairs(
        [(problem, sample.text) for problem, sample in zip(problems, samples, strict=True)],
        wanted.template.answer_protocol,
        wanted.grader,
        [sample.finished for sample in samples],
    )
    rollouts = [
        Rollout(
            problems[rows[0]],
            tuple(
                ScoredResponse(
                    Response(wanted.template.steps.split(samples[i].text), "stop" if samples[i].finished else "length"),
                    verdicts[i].answer,
                    verdicts[i].correct,
                    float(verdicts[i].correct),
                    verdicts[i].status,
                )
                for i in rows
            ),
        )
        for rows in groups.values()
    ]
    known = [(sample.correct, verdict.correct) for sample, verdict in zip(samples, verdicts, strict=True)]
    known = [(before, now) for before, now in known if before is not None]
    with only_writer(output, folder=True):
        write_rows(output / SAMPLES, _rows(rollouts))
        results = summarize(wanted, rollouts, samples[0].source)
        results["hashes"]["samples"] = file_hash(output / SAMPLES)
        results = sealed(results)
        write_json(output / RESULTS, results)
    return results, len(known), sum(before != now for before, now in known)


def matched(samples: Sequence[ForeignSample], wanted: Import) -> list[Problem]:
    """The problem of each sample: the task's that asks the same, or as the files have it."""
    if wanted.data is None:
        return [_named(sample, wanted.task) for sample in samples]
    by_question = {plain(problem.question): problem for problem in wanted.data.problems}
    by_id = {problem.id: problem for problem in wanted.data.problems}
    found: dict[tuple[str, str], Problem | None] = {}
    for sample in samples:
        key = sample.problem.id, sample.problem.question
        if key not in found:
            found[key] = _match(plain(sample.problem.question), sample.problem.id, by_question, by_id)
        if found[key] is None:
            raise InputError(
                f"{sample.place}: its question is none of the {len(by_id)} of task '{wanted.task}' "
                f"({sample.problem.question[:60]!r}); give the task that was asked, or none to take the problems from "
                "the file."
            )
    return [problem for sample in samples if (problem := found[sample.problem.id, sample.problem.question])]


def _match(
    question: str, name: str, by_question: Mapping[str, Problem], by_id: Mapping[str, Problem]
) -> Problem | None:
    """By the question; by the longest of the task's that a prompt holds; by the id where no question is told."""
    if not question:
        return by_id.get(name)
    if question in by_question:
        return by_question[question]
    inside = [each for each in by_question if each in question]
    return by_question[max(inside, key=len)] if inside else None


def plain(text: str) -> str:
    """A question without differences of blanks, in which programs differ."""
    return " ".join(text.split())


def _named(sample: ForeignSample, task: str) -> Problem:
    problem = sample.problem
    name = problem.id or f"{stable_hash(problem.question):x}"
    if not problem.id and not problem.question:
        raise InputError(f"{sample.place}: tells neither an id nor a question; give --task to say what was asked.")
    return replace(problem, id=name, question=problem.question or name, source=problem.source or task)


def check_even(groups: Mapping[str, Sequence[int]], samples: Sequence[ForeignSample]) -> None:
    """Raise `InputError` unless all problems have the same number of samples, as every metric here presumes."""
    sizes = Counter(map(len, groups.values()))
    if len(sizes) > 1:
        usual = sizes.most_common(1)[0][0]
        name, rows = next((name, rows) for name, rows in groups.items() if len(rows) != usual)
        raise InputError(
            f"{samples[rows[0]].place}: problem '{name}' has {len(rows)} samples, most have {usual}; give all files of "
            "one run, and each once."
        )


def _rows(rollouts: Sequence[Rollout]) -> Iterable[Sample]:
    for rollout in rollouts:
        for index, scored in enumerate(rollout.responses):
            text = f"{rollout.problem.id}\0{index}\0{scored.response.text}"
            yield Sample(
                hashlib.sha256(text.encode()).hexdigest()[:20],
                rollout.problem.id,
                index,
                scored.response,
                answer=scored.answer,
                correct=scored.correct,
                status=scored.status,
                reward=scored.reward,
                problem=rollout.problem,
            )


def summarize(wanted: Import, rollouts: Sequence[Rollout], source: str) -> dict[str, Any]:
    """The document of results.json, with what the files do not tell left empty."""
    n = len(rollouts[0].responses)
    metrics = evaluate(rollouts, MetricConfig(tuple(sorted({1, n}))))
    questions = f"{stable_hash([rollout.problem.question for rollout in rollouts]):016x}"
    total = len(wanted.data.problems) if wanted.data else len(rollouts)
    return {
        "task": wanted.task,
        "limit": {"problems": len(rollouts), "of": total, "chosen": "elsewhere"} if len(rollouts) < total else None,
        **summary_of(rollouts, {name: value for name, value in metrics.items() if name not in UNMEASURED}),
        "protocol": to_dict(wanted.template)
        | {"answer_protocol": to_dict(find_answer_protocol(wanted.template.answer_protocol))},
        "sampling": {name: n if name == "n" else None for name in asdict(SamplingConfig())},
        "search": INDEPENDENT,
        "reward": None,
        "answer_weight": 1.0,
        "grader": {"name": wanted.grader, "version": find_grader(wanted.grader).version},
        "engine": f"{source} (imported)",
        "versions": versions(),
        "git_commit": git_commit(),
        "config": {"model": wanted.model, "files": [str(file) for file in wanted.files]},
        "hashes": {
            "weights": wanted.model or "unknown",
            "data": wanted.data.sha256 if wanted.data else questions,
            "files": {file.name: file_hash(file) for file in wanted.files},
        },
        "contamination": None,
        "data": {"origin": wanted.data.origin if wanted.data else ", ".join(map(str, wanted.files)), "licence": ""},
    }
