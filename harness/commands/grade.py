"""`harness grade`: grade stored samples again, without generating."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.types import Problem

_TEXTS = ("text", "pred", "response", "completion", "output")
_GOLDS = ("gold", "answer")


@dataclass(frozen=True)
class _Sample:
    place: str
    text: str
    problem: Problem
    correct: bool | None
    """The verdict on file, if any."""
    finished: bool = True
    """Whether the response ended by itself and not by length."""


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
    lm-evaluation-harness (`samples_*.jsonl`), lighteval (details, `.parquet`) and Inspect (logs, `.json`) write. Where
    verdicts are on file, every one that differs is counted under a code such as `refused:no_answer` (right on file,
    refused here, by that rule) or `accepted:numeric` (wrong on file, accepted here). Of a choice task what the right
    option says is right too, and of a response that ended by length only an answer that it marked counts.

    Args:
        file: A .jsonl, .jsonl.gz, .json or .parquet file. Flat rows hold the response under text, pred, response,
            completion or output, the gold answer under gold or answer, and options, if any, under choices.
        grader: Name of the grader: strict, prm800k, rstar, minerva or hendrycks.
        protocol: Name of the answer protocol by which the final answer is found, or a YAML file with its rules.
        explain: Print for every sample the answer found, the rule that decided, and both normal forms.
        against: A second grader; print the samples on which the two disagree.
        num_workers: Worker processes at most; by default one for each core.

    Returns:
        0; bad input raises InputError.
    """
    from harness.errors import InputError
    from harness.grading.answer_protocols import find_answer_protocol
    from harness.grading.graders import named
    from harness.rollouts.verdicts import grade_pairs
    from harness.store import read_yaml

    reading = find_answer_protocol(read_yaml(protocol) if protocol.endswith((".yaml", ".yml")) else protocol)
    graders = [named(grader)] + ([named(against)] if against is not None else [])
    samples = list(_samples(Path(file)))
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


def _samples(path: Path) -> Iterator[_Sample]:
    from harness.errors import InputError

    for place, row in _rows(path):
        found = list(_from_row(place, row))
        if not found and not isinstance(row.get("problem"), dict):
            raise InputError(
                f"{place}: no response and gold answer found in {sorted(row)}; rows need one of {', '.join(_TEXTS)} "
                f"and one of {', '.join(_GOLDS)}, or a problem with its response."
            )
        yield from found


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The place and the content of every row: lines, the samples of an Inspect log, the rows of a table."""
    from harness.errors import InputError
    from harness.store import read_jsonl

    if path.suffix == ".json":
        try:
            log = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as JSON: {error}.") from error
        if not isinstance(log, dict) or not isinstance(log.get("samples"), list):
            raise InputError(f"{path}: holds no `samples`; a .json file is read as an Inspect log.")
        yield from ((f"{path}#{number}", row) for number, row in enumerate(log["samples"]))
    elif path.suffix == ".parquet":
        from datasets import Dataset

        if not path.is_file():
            raise InputError(f"{path}: there is no such file.")
        yield from ((f"{path}#{number}", row) for number, row in enumerate(Dataset.from_parquet(str(path))))
    else:
        yield from ((f"{path}:{number}", row) for number, row in read_jsonl(path))


def _from_row(place: str, row: dict[str, Any]) -> Iterator[_Sample]:
    from harness.store import to_row
    from harness.types import Problem

    problem = row.get("problem")
    if isinstance(problem, dict):
        asked = to_row(Problem, {"id": "", "question": "", **problem}, place)
        scored = row.get("responses", [row] if "response" in row else [])
        for index, item in enumerate(scored):
            response = item.get("response", {})
            name = f"{place}#{index}" if "responses" in row else place
            ended = response.get("finish_reason") != "length"
            yield _Sample(name, "".join(response.get("steps", ())), asked, item.get("correct", False), ended)
    elif isinstance(row.get("resps"), list) and "target" in row:
        yield from _from_lm_eval(place, row)
    elif isinstance(row.get("output"), dict) and "target" in row:
        yield from _from_inspect(place, row)
    elif isinstance(row.get("doc"), dict) and isinstance(row.get("model_response"), dict):
        yield from _from_lighteval(place, row)
    else:
        text = next((row[key] for key in _TEXTS if isinstance(row.get(key), str)), None)
        gold = next((row[key] for key in _GOLDS if isinstance(row.get(key), str | int | float)), None)
        if text is not None and gold is not None:
            verdict, options = row.get("correct", row.get("label")), row.get("choices")
            choices = tuple(map(str, options)) if isinstance(options, list) else ()
            asked = Problem("", "", str(gold), choices=choices)
            yield _Sample(place, text, asked, verdict if isinstance(verdict, bool) else None)


def _from_lm_eval(place: str, row: dict[str, Any]) -> Iterator[_Sample]:
    """One problem of lm-evaluation-harness: the samples in `resps`, one verdict if its metric is all or nothing."""
    from harness.types import Problem

    texts = [text for group in row["resps"] for text in (group if isinstance(group, list) else [group])]
    score = _first_score(row, row.get("metrics") or ("exact_match", "acc"))
    for index, text in enumerate(texts):
        name = f"{place}#{index}" if len(texts) > 1 else place
        yield _Sample(name, str(text), Problem("", "", str(row["target"])), _all_or_nothing(score))


def _from_inspect(place: str, row: dict[str, Any]) -> Iterator[_Sample]:
    """One sample of an Inspect log: its scores are C and I, or numbers."""
    from harness.types import Problem

    target = row["target"][0] if isinstance(row["target"], list) else row["target"]
    values = [score.get("value") for score in (row.get("scores") or {}).values()]
    value = {"C": 1.0, "I": 0.0}.get(str(values[0]), values[0]) if values else None
    yield _Sample(place, str(row["output"].get("completion", "")), Problem("", "", str(target)), _all_or_nothing(value))


def _from_lighteval(place: str, row: dict[str, Any]) -> Iterator[_Sample]:
    """One document of lighteval's details: the gold is a choice by its index, the responses are in `model_response`."""
    from harness.types import Problem

    doc, texts = row["doc"], row["model_response"].get("text") or []
    index = doc.get("gold_index", 0)
    gold = doc["choices"][index[0] if isinstance(index, list) else index]
    metric = row.get("metric") or {}
    score = _first_score(metric, tuple(metric))
    for number, text in enumerate(texts):
        name = f"{place}#{number}" if len(texts) > 1 else place
        yield _Sample(name, str(text), Problem("", "", str(gold)), _all_or_nothing(score))


def _first_score(row: dict[str, Any], names: Iterable[str]) -> Any:
    return next((row[name] for name in names if isinstance(row.get(name), int | float)), None)


def _all_or_nothing(score: Any) -> bool | None:
    """The verdict that a mean over samples tells of each: none where some are right and some are wrong."""
    return bool(score) if isinstance(score, int | float) and score in {0, 1} else None


def _explanation(sample: _Sample, verdict: Any) -> str:
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


def _print_disagreements(samples: list[_Sample], verdicts: list[list[Any]], names: list[str]) -> None:
    differing = [(s, a, b) for s, a, b in zip(samples, *verdicts, strict=True) if a.correct != b.correct]
    print(f"{names[0]} and {names[1]} disagree on {len(differing)} samples")
    for sample, first, second in differing:
        yes, no = names if first.correct else reversed(names)
        rule, gold = first.rule if first.correct else second.rule, sample.problem.answer
        print(f"{sample.place}: right by {yes} ({rule}), wrong by {no}; gold {gold!r}, answer {first.answer!r}")


def _print_changes(samples: list[_Sample], verdicts: list[Any]) -> None:
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
