"""Do training rows hold the problems of a benchmark? Overlap of 13-grams of words and of normalised problems."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.sources import Given, find_source, read_source
from harness.types import Problem

NGRAM = 13
"""Words of a shared run that count as overlap (GPT-3, arXiv:2005.14165, appendix C)."""

_WORD = re.compile(r"[^\W_]+")
_WORD_OR_SIGN = re.compile(r"[^\W_]+|[-−+*/=<>^|±×÷·≤≥≠]")


@dataclass(frozen=True)
class Overlap:
    """What training rows share with the problems of one task."""

    task: str
    num_problems: int
    same: dict[str, str] = field(default_factory=dict)
    """Problems whose normalised text stands in a training row, with the place of the first such row."""
    ngrams: dict[str, str] = field(default_factory=dict)
    """Further problems that share 13 words in a row with a training row, with the place of the first."""

    @property
    def clean(self) -> bool:
        return not self.same and not self.ngrams

    def __str__(self) -> str:
        if self.clean:
            return f"{self.task}: no overlap of {self.num_problems} problems with the training rows"
        places = {**self.ngrams, **self.same}
        problem, place = next(iter(places.items()))
        return (
            f"{self.task}: of {self.num_problems} problems {len(self.same)} stand in the training rows and "
            f"{len(self.ngrams)} more share {NGRAM} words in a row, such as '{problem}' with {place}"
        )


def words(text: str) -> list[str]:
    """Words and numbers in one case, without punctuation, accents composed."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def normalized(text: str) -> str:
    """Words, numbers and the signs of formulas, without blanks: a problem with another sign is another problem."""
    return "".join(_WORD_OR_SIGN.findall(unicodedata.normalize("NFKC", text).casefold()))


def overlaps(tasks: Mapping[str, Sequence[Problem]], texts: Iterable[tuple[str, str]]) -> list[Overlap]:
    """Check training texts against the problems of tasks in one pass; memory grows with the tasks, not the texts.

    Args:
        tasks: problems by task.
        texts: (place, text) of every training text, such as its file and line, and its question or prompt.

    Returns:
        One `Overlap` for each task; a problem of fewer than 13 words is found only where it is a whole text.
    """
    whole: dict[str, list[tuple[str, str]]] = {}
    runs: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for task, problems in tasks.items():
        for problem in problems:
            found = words(problem.question)
            whole.setdefault(normalized(problem.question), []).append((task, problem.id))
            for start in range(len(found) - NGRAM + 1):
                runs.setdefault(tuple(found[start : start + NGRAM]), []).append((task, problem.id))
    same: dict[tuple[str, str], str] = {}
    shared: dict[tuple[str, str], str] = {}
    for place, text in texts:
        found = words(text)
        for owner in whole.get(normalized(text), ()):
            same.setdefault(owner, place)
        for start in range(len(found) - NGRAM + 1):
            for owner in runs.get(tuple(found[start : start + NGRAM]), ()):
                shared.setdefault(owner, place)
    return [
        Overlap(
            task,
            len(problems),
            {p.id: same[task, p.id] for p in problems if (task, p.id) in same},
            {p.id: shared[task, p.id] for p in problems if (task, p.id) in shared and (task, p.id) not in same},
        )
        for task, problems in tasks.items()
    ]


def training_texts(files: Sequence[Given]) -> Iterable[tuple[str, str]]:
    """(place, text) of each row of training files: its question, problem, query or prompt, whichever it has."""
    for given in files:
        for place, row in read_source(find_source(given)):
            text = _question(row)
            if text:
                yield place, text


def _question(row: Mapping[str, Any]) -> str:
    for column in ("question", "problem", "query", "prompt", "instruction", "messages", "conversations", "chosen"):
        value = row.get(column)
        if isinstance(value, Mapping):  # a rollout holds its problem
            return str(value.get("question", ""))
        if isinstance(value, list):  # messages
            return "\n".join(str(m.get("content") or m.get("value") or "") for m in value if isinstance(m, Mapping))
        if value:
            return str(value)
    return ""
