"""`harness grade`: grade stored samples again, without generating."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TEXTS = ("text", "pred", "response", "completion", "output")
_GOLDS = ("gold", "answer")


@dataclass(frozen=True)
class _Sample:
    place: str
    text: str
    gold: str
    correct: bool | None
    """The verdict on file, if any."""


def grade(
    file: Path,
    grader: str = "strict",
    protocol: str = "default",
    explain: bool = False,
    against: str | None = None,
    num_workers: int | None = None,
) -> int:
    """Grade the samples of a file again and print the accuracy, with those that have no answer counted apart.

    Reads an evaluation's `samples.jsonl.gz`, a rollouts file, or rows with a text and a gold answer.

    Args:
        file: A .jsonl or .jsonl.gz file. Flat rows hold the response under text, pred, response, completion or output,
            and the gold answer under gold or answer.
        grader: Name of the grader: strict, prm800k, rstar, minerva or hendrycks.
        protocol: Name of the answer protocol by which the final answer is found, or a YAML file with its rules.
        explain: Print for every sample the answer found, the rule that decided, and both normal forms.
        against: A second grader; print the samples on which the two disagree.
        num_workers: Worker processes at most; by default one for each core.

    Returns:
        0; bad input raises InputError.
    """
    from harness.errors import InputError
    from harness.grading import grade_many
    from harness.grading.answer_protocols import find_answer_protocol
    from harness.grading.graders import named
    from harness.store import read_yaml

    reading = find_answer_protocol(read_yaml(protocol) if protocol.endswith((".yaml", ".yml")) else protocol)
    graders = [named(grader)] + ([named(against)] if against is not None else [])
    samples = list(_samples(Path(file)))
    if not samples:
        raise InputError(f"{file}: holds no samples.")
    texts, golds = [s.text for s in samples], [s.gold for s in samples]
    verdicts = [grade_many(texts, golds, grader=g.name, protocol=reading, num_workers=num_workers) for g in graders]
    if explain:
        for sample, verdict in zip(samples, verdicts[0], strict=True):
            print(_explanation(sample, verdict))
    for g, found in zip(graders, verdicts, strict=True):
        print(_summary(g.label, found))
    if against is not None:
        _print_disagreements(samples, verdicts, [g.name for g in graders])
    _print_changes(samples, verdicts[0])
    return 0


def _samples(path: Path) -> Iterator[_Sample]:
    from harness.errors import InputError
    from harness.store import read_jsonl

    for number, row in read_jsonl(path):
        place = f"{path}:{number}"
        found = list(_from_row(place, row))
        if not found and not isinstance(row.get("problem"), dict):
            raise InputError(
                f"{place}: no response and gold answer found in {sorted(row)}; rows need one of {', '.join(_TEXTS)} "
                f"and one of {', '.join(_GOLDS)}, or a problem with its response."
            )
        yield from found


def _from_row(place: str, row: dict[str, Any]) -> Iterator[_Sample]:
    problem = row.get("problem")
    if isinstance(problem, dict):
        scored = row.get("responses", [row] if "response" in row else [])
        for index, item in enumerate(scored):
            steps = item.get("response", {}).get("steps", ())
            name = f"{place}#{index}" if "responses" in row else place
            yield _Sample(name, "".join(steps), str(problem.get("answer", "")), item.get("correct", False))
        return
    text = next((row[key] for key in _TEXTS if isinstance(row.get(key), str)), None)
    gold = next((row[key] for key in _GOLDS if isinstance(row.get(key), str | int | float)), None)
    if text is not None and gold is not None:
        verdict = row.get("correct", row.get("label"))
        yield _Sample(place, text, str(gold), verdict if isinstance(verdict, bool) else None)


def _explanation(sample: _Sample, verdict: Any) -> str:
    from harness.grading.normalize import normalize

    mark = "right" if verdict.correct else "wrong" if verdict.status == "ok" else verdict.status
    read = "none" if verdict.answer is None else f"{verdict.answer!r} read as {normalize(verdict.answer)!r}"
    gold = f"{sample.gold!r} read as {normalize(sample.gold)!r}"
    return f"{sample.place}: {mark} by {verdict.rule}; gold {gold}; answer {read}"


def _summary(label: str, verdicts: list[Any]) -> str:
    right = sum(v.correct for v in verdicts)
    statuses = Counter(v.status for v in verdicts)
    apart = ", ".join(f"{statuses[s]} {s}" for s in ("no_answer", "parse_failure", "timeout"))
    return f"{label}: {right} of {len(verdicts)} right ({100 * right / len(verdicts):.2f} %); {apart}"


def _print_disagreements(samples: list[_Sample], verdicts: list[list[Any]], names: list[str]) -> None:
    differing = [(s, a, b) for s, a, b in zip(samples, *verdicts, strict=True) if a.correct != b.correct]
    print(f"{names[0]} and {names[1]} disagree on {len(differing)} samples")
    for sample, first, second in differing:
        yes, no = names if first.correct else reversed(names)
        rule = first.rule if first.correct else second.rule
        print(f"{sample.place}: right by {yes} ({rule}), wrong by {no}; gold {sample.gold!r}, answer {first.answer!r}")


def _print_changes(samples: list[_Sample], verdicts: list[Any]) -> None:
    known = [(s, v) for s, v in zip(samples, verdicts, strict=True) if s.correct is not None]
    changed = [s.place for s, v in known if s.correct != v.correct]
    if known:
        shown = ", ".join(changed[:10]) + (", ..." if len(changed) > 10 else "")
        print(f"{len(changed)} of {len(known)} verdicts differ from those on file" + (f": {shown}" if changed else ""))
