"""The grader as a reward for other training stacks: TRL's reward functions and verl's `compute_score`.

    from harness.integrations import correct_answer       # GRPOTrainer(reward_funcs=correct_answer, ...)
    custom_reward_function.path=.../harness/integrations.py custom_reward_function.name=compute_score     # verl

Importing this module imports neither stack, nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import InputError
from harness.grading import extract_answer, grade, grade_many

GOLD_COLUMNS = ("answer", "ground_truth", "gold", "target", "solution")
"""Columns of a data set in which the gold answer is looked for, in this order."""


def correct_answer(
    prompts: Sequence[Any] | None = None, completions: Sequence[Any] = (), **columns: Any
) -> list[float | None]:
    """1.0 for every completion whose final answer equals the gold answer, 0.0 for the others (TRL).

    The gold answers are the first column among `GOLD_COLUMNS`; a `solution` is read as a response itself if it marks
    its answer. A row without a gold answer gets None, which TRL leaves out. Completions are strings or conversations,
    of which the last message counts. TRL's further arguments (`completion_ids`, `trainer_state`, ...) are not needed.

    Raises:
        InputError: no column holds gold answers.
    """
    name = next((column for column in GOLD_COLUMNS if columns.get(column) is not None), None)
    if name is None:
        raise InputError(f"No column of gold answers among {sorted(columns)}; name one of them {GOLD_COLUMNS[0]}.")
    golds = [_gold(value, name) for value in columns[name]]
    if len(golds) != len(completions):
        raise InputError(f"Column {name!r} holds {len(golds)} gold answers for {len(completions)} completions.")
    graded = [i for i, gold in enumerate(golds) if gold]
    verdicts = grade_many([_text(completions[i]) for i in graded], [golds[i] for i in graded], num_workers=1)
    rewards: list[float | None] = [None] * len(golds)
    for i, verdict in zip(graded, verdicts, strict=True):
        rewards[i] = float(verdict.correct)
    return rewards


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    **options: Any,
) -> float:
    """1.0 if the response's final answer equals the gold answer, else 0.0 (verl).

    `ground_truth` may be a list of golds of which any one is right; `data_source`, `extra_info` and further options of
    verl's reward managers are not needed.
    """
    golds = ground_truth if isinstance(ground_truth, list | tuple) else [ground_truth]
    return float(any(grade(solution_str, str(gold)).correct for gold in golds))


def _gold(value: Any, column: str) -> str:
    text = "" if value is None else str(value).strip()
    if column != "solution":
        return text
    return extract_answer(text, marked_only=True) or text


def _text(completion: Any) -> str:
    """The text of a completion: a string, or the content of a conversation's last message."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
