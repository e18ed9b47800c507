"""Grade responses: one, or many at once over all cores."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from harness.grading.answer_protocols import CHOICE, DEFAULT, AnswerProtocol
from harness.grading.equivalence import Decision, decide, decide_cheaply
from harness.grading.extract import boxes, extract_answer
from harness.grading.graders import named
from harness.grading.verdict import Verdict
from harness.grading.workers import pool

PARALLEL_PAIRS = 1000
"""Pairs that strings and plain numbers leave undecided before other processes are worth their start."""
_CHUNK = 20
_LETTER = re.compile(r"\W*(?:text|mathrm|textbf|mathbf)?\W*[A-J]\W*")


def grade(
    text: str, gold: str, *, grader: str = "strict", protocol: AnswerProtocol = DEFAULT, decimals: int | None = None
) -> Verdict:
    """Extract the final answer of a response and compare it with the gold answer.

    `grader` is a name in `GRADERS`. `decimals` is the number of places to which the task asks to round (strict only).
    """
    return grade_answer(read_answer(text, gold, protocol), gold, grader=grader, decimals=decimals)


def grade_answer(answer: str | None, gold: str, *, grader: str = "strict", decimals: int | None = None) -> Verdict:
    """The verdict on an answer that was extracted before; None is no answer."""
    if answer is None or not answer.strip():
        return _NO_ANSWER
    decision = decide(gold, answer, decimals) if grader == "strict" else named(grader).decide(gold, answer)
    return _verdict(decision, answer)


def read_answer(text: str, gold: str, protocol: AnswerProtocol = DEFAULT) -> str | None:
    """The final answer; where the gold is a choice letter and nothing is boxed, a letter is looked for first."""
    if protocol is DEFAULT and len(gold) < 30 and _LETTER.fullmatch(gold) and not boxes(text):
        found = extract_answer(text, CHOICE)
        if found is not None:
            return found
    return extract_answer(text, protocol)


def grade_many(
    texts: Sequence[str],
    golds: Sequence[str],
    *,
    grader: str = "strict",
    protocol: AnswerProtocol = DEFAULT,
    num_workers: int | None = None,
) -> list[Verdict]:
    """Grade `texts[i]` against `golds[i]` for every i, in order.

    Equal pairs are decided once. What strings and plain numbers leave open goes to worker processes where it is much;
    `num_workers` is at most how many, by default one for each core this process may use.
    """
    chosen = named(grader)
    answers = [read_answer(text, gold, protocol) for text, gold in zip(texts, golds, strict=True)]
    pairs = dict.fromkeys(
        (gold, answer) for gold, answer in zip(golds, answers, strict=True) if answer is not None and answer.strip()
    )
    decided: dict[tuple[str, str], Decision] = {}
    left: list[tuple[str, str]] = []
    for gold, answer in pairs:
        decision = decide_cheaply(gold, answer) if grader == "strict" else chosen.decide(gold, answer)
        if decision is None:
            left.append((gold, answer))
        else:
            decided[gold, answer] = decision
    workers = len(os.sched_getaffinity(0)) if num_workers is None else num_workers
    if len(left) >= PARALLEL_PAIRS and workers > 1:
        decided.update(_decide_in_workers(left, workers))
    else:
        decided.update((pair, decide(*pair)) for pair in left)
    return [
        _verdict(decided[gold, answer], answer) if answer is not None and answer.strip() else _NO_ANSWER
        for gold, answer in zip(golds, answers, strict=True)
    ]


def _decide_in_workers(pairs: list[tuple[str, str]], workers: int) -> dict[tuple[str, str], Decision]:
    """Decide pairs in chunks; one that overruns is decided again pair by pair, so only the guilty pair times out."""
    chunks = [pairs[i : i + _CHUNK] for i in range(0, len(pairs), _CHUNK)]
    results = pool().map("decide", chunks, workers, lambda: None)
    decided: dict[tuple[str, str], Decision] = {}
    for chunk, result in zip(chunks, results, strict=True):
        decided.update(zip(chunk, result if result is not None else [decide(*pair) for pair in chunk], strict=True))
    return decided


def _verdict(decision: Decision, answer: str) -> Verdict:
    return Verdict(decision.same, answer, decision.rule, decision.status)


_NO_ANSWER = Verdict(False, None, "none", "no_answer")
