"""Samples that other programs wrote: lm-evaluation-harness, lighteval, Inspect, NeMo-Skills, and flat rows."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError, first_line
from harness.evals.rows import lettered
from harness.store import read_jsonl, to_row
from harness.types import Problem

_TEXTS = ("text", "pred", "response", "completion", "output")
_GOLDS = ("gold", "answer")
_QUESTIONS = ("question", "problem", "prompt", "input")


@dataclass(frozen=True)
class ForeignSample:
    """One response, whoever drew and wrote it."""

    place: str
    """File and line, for errors."""
    text: str
    problem: Problem
    """Without id or question where the file tells none."""
    correct: bool | None
    """The verdict on file, if any."""
    finished: bool = True
    """Whether the response ended by itself and not by length."""
    source: str = "rows"
    """The program that wrote it."""


def foreign_samples(path: Path) -> Iterator[ForeignSample]:
    """The samples of a file, which may also be one of ours.

    Raises:
        InputError: the file cannot be read, or a row holds no response with a gold answer.
    """
    filters: dict[Any, Any] = {}
    for place, row in _rows(path):
        # lm_eval repeats its lines for every filter of answers; the responses are the same.
        if "filter" in row and filters.setdefault(row.get("doc_id"), row["filter"]) != row["filter"]:
            continue
        found = list(_from_row(place, row))
        if not found and not isinstance(row.get("problem"), dict):
            raise InputError(
                f"{place}: no response and gold answer found in {sorted(row)}; rows need one of {', '.join(_TEXTS)} "
                f"and one of {', '.join(_GOLDS)}, or a problem with its response."
            )
        yield from found


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The place and the content of every row: lines, the samples of an Inspect log, the rows of a table."""
    if path.suffix == ".json":
        try:
            log = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as JSON: {error}.") from error
        if not isinstance(log, dict) or not isinstance(log.get("samples"), list):
            raise InputError(f"{path}: holds no `samples`; a .json file is read as an Inspect log.")
        yield from ((f"{path}#{number}", row) for number, row in enumerate(log["samples"]))
    elif path.suffix == ".eval":
        yield from _inspect_archive(path)
    elif path.suffix == ".parquet":
        from datasets import Dataset

        if not path.is_file():
            raise InputError(f"{path}: there is no such file.")
        yield from ((f"{path}#{number}", row) for number, row in enumerate(Dataset.from_parquet(str(path))))
    else:
        yield from ((f"{path}:{number}", row) for number, row in read_jsonl(path))


def _inspect_archive(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The samples of an Inspect log in its own format, a zip archive of `samples/ID_epoch_N.json`."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json")]
            rows = [(f"{path}#{name.removeprefix('samples/')}", json.loads(archive.read(name))) for name in names]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: cannot be read as an Inspect log ({first_line(error)}); write it as JSON with "
            "`inspect log convert --to json`."
        ) from None
    if not rows:
        raise InputError(f"{path}: holds no samples; was the evaluation run to its end?")
    yield from sorted(rows, key=lambda row: (row[1].get("epoch", 1), str(row[1].get("id")).zfill(12)))


def _from_row(place: str, row: dict[str, Any]) -> Iterator[ForeignSample]:
    problem = row.get("problem")
    if isinstance(problem, dict):
        asked = to_row(Problem, {"id": "", "question": "", **problem}, place)
        scored = row.get("responses", [row] if "response" in row else [])
        for index, item in enumerate(scored):
            response = item.get("response", {})
            name = f"{place}#{index}" if "responses" in row else place
            ended = response.get("finish_reason") != "length"
            text = "".join(response.get("steps", ()))
            yield ForeignSample(name, text, asked, item.get("correct", False), ended, "harness")
    elif isinstance(row.get("resps"), list) and "target" in row:
        yield from _from_lm_eval(place, row)
    elif isinstance(row.get("output"), dict) and "target" in row:
        yield from _from_inspect(place, row)
    elif isinstance(row.get("doc"), dict) and isinstance(row.get("model_response"), dict):
        yield from _from_lighteval(place, row)
    elif isinstance(row.get("generation"), str) and "expected_answer" in row:
        yield from _from_nemo_skills(place, row)
    else:
        written = next((row[key] for key in _TEXTS if isinstance(row.get(key), str)), None)
        gold = next((row[key] for key in _GOLDS if isinstance(row.get(key), str | int | float)), None)
        if written is not None and gold is not None:
            verdict, options = row.get("correct", row.get("label")), row.get("choices")
            choices = tuple(map(str, options)) if isinstance(options, list) else ()
            asked = _asked(row, gold, choices=choices)
            yield ForeignSample(place, written, asked, verdict if isinstance(verdict, bool) else None)


def _asked(row: Mapping[str, Any], gold: Any, name: Any = None, question: Any = None, **more: Any) -> Problem:
    """What a row says of its problem, by the names under which data sets have it."""
    said = question or next((row[key] for key in _QUESTIONS if isinstance(row.get(key), str)), "")
    known = next((row[key] for key in ("id", "unique_id") if isinstance(row.get(key), str | int)), name)
    subject, level = row.get("subject") or row.get("type"), row.get("level")
    return Problem(
        "" if known is None else str(known),
        str(said),
        str(gold),
        subject=subject if isinstance(subject, str) else "",
        level=str(level) if isinstance(level, str | int) else "",
        **more,
    )


def _from_lm_eval(place: str, row: dict[str, Any]) -> Iterator[ForeignSample]:
    """One problem of lm-evaluation-harness: the samples in `resps`, one verdict if its metric is all or nothing."""
    texts = [text for group in row["resps"] for text in (group if isinstance(group, list) else [group])]
    other = next((text for text in texts if not isinstance(text, str)), None)
    if other is not None:
        raise InputError(
            f"{place}: holds scores of given options ({other!r:.40}), no responses; nothing can be graded."
        )
    score, doc = _first_score(row, row.get("metrics") or ("exact_match", "acc")), row.get("doc")
    gold = str(row["target"]).rpartition("####")[2].strip()  # the target of GSM8K is a whole solution
    asked = _asked(doc if isinstance(doc, dict) else {}, gold, row.get("doc_id"))
    for index, text in enumerate(texts):
        name = f"{place}#{index}" if len(texts) > 1 else place
        yield ForeignSample(name, text, asked, _all_or_nothing(score), source="lm_eval")


def _from_inspect(place: str, row: dict[str, Any]) -> Iterator[ForeignSample]:
    """One sample of an Inspect log: its scores are C and I, or numbers."""
    target = row["target"][0] if isinstance(row["target"], list) else row["target"]
    values = [score.get("value") for score in (row.get("scores") or {}).values()]
    value = {"C": 1.0, "I": 0.0}.get(str(values[0]), values[0]) if values else None
    given, output = row.get("choices"), row["output"]
    asked_with: Any = row.get("input")
    if isinstance(asked_with, list):  # messages, of which the last one of the user asks
        contents = [message.get("content") for message in asked_with if message.get("role") == "user"]
        asked_with = next((content for content in reversed(contents) if isinstance(content, str)), "")
    choices: tuple[str, ...] = ()
    if given:
        choices, target = lettered(given, str(target), place)
        asked_with = "\n".join([str(asked_with), *choices])
    metadata = row.get("metadata") or {}
    asked = _asked({**metadata, "id": row.get("id")}, target, question=asked_with, choices=choices)
    reason = next((choice.get("stop_reason") for choice in output.get("choices") or ()), "stop")
    finished = reason not in ("max_tokens", "model_length")
    text = str(output.get("completion", ""))
    yield ForeignSample(place, text, asked, _all_or_nothing(value), finished, "inspect")


def _from_lighteval(place: str, row: dict[str, Any]) -> Iterator[ForeignSample]:
    """One document of lighteval's details: the gold is a choice by its index, the responses are in `model_response`."""
    doc, texts = row["doc"], row["model_response"].get("text") or []
    index = doc.get("gold_index", 0)
    gold = doc["choices"][index[0] if isinstance(index, list) else index]
    metric = row.get("metric") or {}
    score = _first_score(metric, tuple(metric))
    asked = _asked({**(doc.get("specific") or {}), "id": doc.get("id")}, gold, question=doc.get("query"))
    for number, text in enumerate(texts):
        name = f"{place}#{number}" if len(texts) > 1 else place
        yield ForeignSample(name, str(text), asked, _all_or_nothing(score), source="lighteval")


def _from_nemo_skills(place: str, row: dict[str, Any]) -> Iterator[ForeignSample]:
    """One line of NeMo-Skills' `output.jsonl` or `output-rsN.jsonl`, each of which holds one sample of a problem."""
    verdict = row.get("symbolic_correct", row.get("is_correct"))
    asked = _asked(row, row["expected_answer"])
    yield ForeignSample(
        place, row["generation"], asked, verdict if isinstance(verdict, bool) else None, source="nemo_skills"
    )


def _first_score(row: dict[str, Any], names: Iterable[str]) -> Any:
    return next((row[name] for name in names if isinstance(row.get(name), int | float)), None)


def _all_or_nothing(score: Any) -> bool | None:
    """The verdict that a mean over samples tells of each: none where some are right and some are wrong."""
    return bool(score) if isinstance(score, int | float) and score in {0, 1} else None
