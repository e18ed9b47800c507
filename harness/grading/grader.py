"""Grade responses: one, or many at once over all cores."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache

from harness.grading.answer_protocols import CHOICE, DEFAULT, AnswerProtocol
from harness.grading.brackets import boxes
from harness.grading.equivalence import Decision, decide, decide_cheaply, settle
from harness.grading.extract import behind_thought, extract_answer
from harness.grading.graders import named
from harness.grading.normalize import normalize
from harness.grading.programs import arguments
from harness.grading.verdict import Verdict
from harness.grading.words import gold_choice, letters
from harness.grading.workers import pool

PARALLEL_PAIRS = 1000
"""Pairs that strings and plain numbers leave undecided before other processes are worth their start."""
_CHUNK = 20
_CAPITAL = re.compile(r"[A-J]")


def grade(
    text: str, gold: str, *, grader: str = "strict", protocol: AnswerProtocol = DEFAULT, finished: bool = True
) -> Verdict:
    """Extract the final answer of a response and compare it with the gold answer.

    `grader` is a name in `GRADERS`; `finished` is false for a response that ended by length.
    """
    return grade_answer(read_answer(text, gold, protocol, finished=finished), gold, grader=grader)


def grade_answer(answer: str | None, gold: str, *, grader: str = "strict") -> Verdict:
    """The verdict on an answer that was extracted before; None is no answer."""
    if answer is None or not answer.strip():
        return _NO_ANSWER
    decision = named(grader).decide(gold, answer)
    return _verdict(decision, answer)


def read_answer(text: str, gold: str, protocol: AnswerProtocol = DEFAULT, *, finished: bool = True) -> str | None:
    """The final answer of a response; None if there is none.

    `finished` is false for a response that ended by length: it has no answer but one that it marked. Where the gold is
    a choice, letters are looked for first and nothing is guessed; where it has several parts and as many boxes stand in
    the response, they are its answer.
    """
    if protocol is not DEFAULT:
        return extract_answer(text, protocol, marked_only=not finished)
    if len(gold) < 300 and _CAPITAL.search(gold) and _is_choice(gold):
        found = extract_answer(text, CHOICE, marked_only=True)
        return found if found is not None else extract_answer(text, DEFAULT, marked_only=True)
    if ("," in gold or ";" in gold) and text.count("boxed") > 1 and (parts := _boxed_parts(text, gold)) is not None:
        return parts
    return extract_answer(text, DEFAULT, marked_only=not finished)


@lru_cache(maxsize=4096)
def _is_choice(gold: str) -> bool:
    normal = normalize(gold)
    return gold_choice(normal) is not None or letters(normal) is not None


def _boxed_parts(text: str, gold: str) -> str | None:
    """The boxes of a response as one list, where each holds one part and the gold has as many parts."""
    found = [content.strip() for _, _, content in boxes(behind_thought(text))]
    if len(found) != len(arguments(gold.replace(";", ","))) or any(len(arguments(content)) > 1 for content in found):
        return None
    return ", ".join(found)


def grade_many(
    texts: Sequence[str],
    golds: Sequence[str],
    *,
    grader: str = "strict",
    protocol: AnswerProtocol = DEFAULT,
    finished: Sequence[bool] | None = None,
    num_workers: int | None = None,
) -> list[Verdict]:
    """Grade `texts[i]` against `golds[i]` for every i, in order; `finished[i]` is false where a text ended by length.

    Equal pairs are decided once. What strings and plain numbers leave open goes to worker processes where it is much;
    `num_workers` is at most how many, by default one for each core this process may use.
    """
    chosen = named(grader)
    ended = [True] * len(texts) if finished is None else finished
    answers = [
        read_answer(text, gold, protocol, finished=end) for text, gold, end in zip(texts, golds, ended, strict=True)
    ]
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
    if left:
        pool().start_ahead()
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
        found = result if result is not None else [decide(*pair) for pair in chunk]
        decided.update(zip(chunk, map(settle, found), strict=True))
    return decided


def _verdict(decision: Decision, answer: str) -> Verdict:
    return Verdict(decision.same, answer, decision.rule, decision.status)


_NO_ANSWER = Verdict(False, None, "none", "no_answer")
