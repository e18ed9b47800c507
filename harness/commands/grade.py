"""`harness grade`: grade stored samples again, without generating."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.evals.foreign import ForeignSample


def grade(
    file: Path,
    grader: str = "strict",
    protocol: str = "default",
    explain: bool = False,
    against: str | None = None,
    num_workers: int | None = None,
) -> int:
    """Grade the samples of a file again and print the accuracy, with those that have no answer counted apart.

    Reads an evaluation's `samples.jsonl.gz`, a rollouts file, rows with a text and a gold answer, and the samples that
    lm-evaluation-harness (`samples_*.jsonl`), lighteval (details, `.parquet`), Inspect (logs, `.json` or `.eval`) and
    NeMo-Skills (`output*.jsonl`) write; `harness import` makes an evaluation of them. Where verdicts are on file, every
    one that differs is counted under a code such as `refused:no_answer` (right on file, refused here, by that rule) or
    `accepted:numeric` (wrong on file, accepted here). Of a choice task what the right option says is right too, and of
    a response that ended by length only an answer that it marked counts.

    Args:
        file: A .jsonl, .jsonl.gz, .json, .eval or .parquet file. Flat rows hold the response under text, pred,
            response, completion or output, the gold answer under gold or answer, and options, if any, under choices.
        grader: Name of the grader: strict, prm800k, rstar, minerva or hendrycks.
        protocol: Name of the answer protocol by which the final answer is found, or a YAML file with its rules.
        explain: Print for every sample the answer found, the rule that decided, and both normal forms.
        against: A second grader; print the samples on which the two disagree.
        num_workers: Worker processes at most; by default one for each core.

    Returns:
        0; bad input raises InputError.
    """
    from harness.errors import InputError
    from harness.evals.foreign import foreign_samples
    from harness.grading.answer_protocols import find_answer_protocol
    from harness.grading.graders import named
    from harness.rollouts.verdicts import grade_pairs
    from harness.store import read_yaml

    reading = find_answer_protocol(read_yaml(protocol) if protocol.endswith((".yaml", ".yml")) else protocol)
    graders = [named(grader)] + ([named(against)] if against is not None else [])
    samples = list(foreign_samples(Path(file)))
    if not samples:
        raise InputError(f"{file}: holds no samples.")
    pairs, finished = [(s.problem, s.text) for s in samples], [s.finished for s in samples]
    verdicts = [grade_pairs(pairs, reading, g.name, finished, num_workers) for g in graders]
    if explain:
        for sample, verdict in zip(samples, verdicts[0], strict=True):
            print(_explanation(sample, verdict))
    for g, found in zip(graders, verdicts, strict=True):
        print(_summary(g.label, found))
    if against is not None:
        _print_disagreements(samples, verdicts, [g.name for g in graders])
    _print_changes(samples, verdicts[0])
    return 0


def _explanation(sample: ForeignSample, verdict: Any) -> str:
    from harness.grading import option_text
    from harness.grading.normalize import normalize

    mark = "right" if verdict.correct else "wrong" if verdict.status == "ok" else verdict.status
    read = "none" if verdict.answer is None else f"{verdict.answer!r} read as {normalize(verdict.answer)!r}"
    problem = sample.problem
    gold = f"{problem.answer!r} read as {normalize(problem.answer)!r}"
    option = option_text(problem.answer, problem.choices) if problem.choices else None
    gold += "" if option is None else f", the option {option!r}"
    return f"{sample.place}: {mark} by {verdict.rule}; gold {gold}; answer {read}"


def _summary(label: str, verdicts: list[Any]) -> str:
    right = sum(v.correct for v in verdicts)
    statuses = Counter(v.status for v in verdicts)
    apart = ", ".join(f"{statuses[s]} {s}" for s in ("no_answer", "parse_failure", "timeout"))
    return f"{label}: {right} of {len(verdicts)} right ({100 * right / len(verdicts):.2f} %); {apart}"


def _print_disagreements(samples: list[ForeignSample], verdicts: list[list[Any]], names: list[str]) -> None:
    differing = [(s, a, b) for s, a, b in zip(samples, *verdicts, strict=True) if a.correct != b.correct]
    print(f"{names[0]} and {names[1]} disagree on {len(differing)} samples")
    for sample, first, second in differing:
        yes, no = names if first.correct else reversed(names)
        rule, gold = first.rule if first.correct else second.rule, sample.problem.answer
        print(f"{sample.place}: right by {yes} ({rule}), wrong by {no}; gold {gold!r}, answer {first.answer!r}")


def _print_changes(samples: list[ForeignSample], verdicts: list[Any]) -> None:
    """How many verdicts differ from those on file, by code, and the first of each."""
    known = [(s, v) for s, v in zip(samples, verdicts, strict=True) if s.correct is not None]
    changed: dict[str, list[str]] = {}
    for sample, verdict in known:
        if sample.correct != verdict.correct:
            reason = verdict.rule if verdict.status == "ok" else verdict.status
            changed.setdefault(f"{'accepted' if verdict.correct else 'refused'}:{reason}", []).append(sample.place)
    if not known:
        return
    print(f"{sum(map(len, changed.values()))} of {len(known)} verdicts differ from those on file")
    for code, places in sorted(changed.items()):
        print(f"  {code}: {len(places)}: {', '.join(places[:10])}{', ...' if len(places) > 10 else ''}")
