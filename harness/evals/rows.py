"""From a task to its problems: local files, hub data sets, generated ones; every row count is checked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import InputError, first_line
from harness.evals.task import DATA_DIR, Task, data_folder
from harness.evals.unit_tests import unit_tests
from harness.grading.instructions import check_instruction
from harness.metrics.sequential import random_order
from harness.sources import Source, content_hash, load_hub, read_source, splits_of
from harness.store import file_hash, stable_hash, write_rows
from harness.types import Instruction, Problem

LETTERS = "ABCDEFGHIJ"
SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".parquet")
"""What the name of a task's file ends with; the first that is there is taken."""
_LABEL = re.compile(r"\s*\(?([A-J]|[1-9])\s*[).:]\s*")
_OPTION = re.compile(r"(?:^|(?<=\s))\(?([A-J])\s*[).]\s")


@dataclass(frozen=True)
class TaskData:
    """The problems of a task and what they were read from."""

    problems: tuple[Problem, ...]
    origin: str
    """Path, hub data set with revision, or generator."""
    sha256: str
    """Hash of the file's bytes, or of the rows where there is no file."""
    total: int = 0
    """Problems before a limit; 0 where none was given."""
    order: int | None = None
    """Seed of the random order of which these are the first; None is the order of the rows."""
    shard: str = ""
    """Which of how many parts these problems are, such as 3/64; "" if they are the whole."""
    ids: tuple[str, ...] = ()
    """The ids that were asked for; () is all."""
    until: str = ""
    """The rule by which they are so few; "" if no rule has ended them."""
    too_long: tuple[str, ...] = ()
    """Ids of the problems that are left out because their prompts do not fit into the model's context."""

    @property
    def limit(self) -> dict[str, Any] | None:
        """How many of how many problems were asked for, and in which order or by which ids, if they are not all."""
        # A rule ends before all problems were looked at.
        asked = len(self.problems) + (0 if self.until else len(self.too_long))
        if asked >= self.total:
            return None
        order = {} if self.order is None else {"order": self.order}
        shard = {"shard": self.shard} if self.shard else {}
        ids = {"ids": list(self.ids)} if self.ids else {}
        until = {"until": self.until} if self.until else {}
        return {"problems": asked, "of": self.total, **order, **ids, **shard, **until}


def load_task(
    task: Task,
    data_dir: str | Path | None = None,
    limit: int | None = None,
    order: int | None = None,
    ids: Sequence[str] = (),
) -> TaskData:
    """The problems of a task, in the order of its rows, without the rows that have no gold answer.

    Args:
        data_dir: folder of task files; default the environment variable HARNESS_DATA_DIR.
        limit: keep the first so many.
        order: seed of a random order of which the first are kept (`harness.metrics.sequential.random_order`).
        ids: keep these problems alone, in the order of the rows; () is all.

    Raises:
        InputError: the rows cannot be found, or their number is not the published one, or a row is malformed, or an
            id is none of theirs.
    """
    generated = task.name == "arithmetic" and not task.file
    data = _generate(task, limit) if generated else _read(task, data_dir)
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; it must be at least 1.")
    kept = data.problems
    total = len(kept)
    if ids:
        if unknown := set(ids) - {problem.id for problem in kept}:
            raise InputError(
                f"task '{task.name}' has no problem '{min(unknown)}'; its ids are like '{kept[0].id}' and "
                f"'{kept[-1].id}'."
            )
        kept = tuple(problem for problem in kept if problem.id in ids)
    if order is not None:
        by_id = {problem.id: problem for problem in kept}
        kept = tuple(by_id[key] for key in random_order(list(by_id), order))
    return TaskData(kept[:limit], data.origin, data.sha256, total, order, ids=tuple(ids))


def _generate(task: Task, limit: int | None) -> TaskData:
    import itertools

    from harness.arithmetic.problems import problems

    assert task.num_rows is not None
    rows = tuple(itertools.islice(problems("test", 0, solutions=True), max(task.num_rows, limit or 0)))
    return TaskData(rows, task.source, f"{stable_hash([row.question for row in rows]):016x}")


def _read(task: Task, data_dir: str | Path | None) -> TaskData:
    path = task_file(task, data_dir)
    if path is not None:
        source = Source(str(path), task.split or ("test" if "test" in splits_of(path) else ""))
        rows = list(read_source(source))
        origin, sha256 = str(source), file_hash(path) if path.is_file() else content_hash([source])
        problems = [to_problem(row, place, i, task, task.columns) for i, (place, row) in enumerate(rows)]
    elif task.hub is not None:
        origin = f"{task.hub.dataset}@{task.hub.revision}"
        found = enumerate(_hub_rows(task))
        problems = [to_problem(row, f"{task.hub.dataset} row {i}", i, task, task.columns) for i, row in found]
        sha256 = f"{stable_hash([problem.question for problem in problems]):016x}"
        rows = [(f"{origin} row {i}", {}) for i in range(len(problems))]
    else:
        raise InputError(
            f"task '{task.name}': its rows are on no hub; point --data_dir or {DATA_DIR} at a folder that holds "
            f"{task.file}.jsonl or {task.file}.jsonl.gz (from {task.source})."
        )
    places = [place for place, _ in rows]
    check_rows(task, problems, places, origin)
    return TaskData(tuple(problem for problem in problems if problem.gradable), origin, sha256)


def task_file(task: Task, data_dir: str | Path | None = None) -> Path | None:
    """The file that holds a task's rows, or None if there is none and the hub must be asked."""
    if Path(task.file).is_absolute():
        return Path(task.file)
    folder = data_folder(data_dir)
    if folder is None:
        return None
    found = [path for suffix in SUFFIXES if (path := folder / (task.file + suffix)).is_file()]
    if not found and task.hub is None:
        raise InputError(f"{folder}: holds neither {task.file}.jsonl nor {task.file}.jsonl.gz for '{task.name}'.")
    return found[0] if found else None


def check_rows(task: Task, problems: Sequence[Problem], places: Sequence[str], origin: str) -> None:
    """Raise `InputError` unless the number of rows is the published one, ids are distinct and answers are there."""
    if task.num_rows is not None and len(problems) != task.num_rows:
        raise InputError(
            f"{origin}: {len(problems)} rows, but '{task.name}' is published with {task.num_rows}; "
            "use the complete file, or give its path as a task of its own."
        )
    if not problems:
        raise InputError(f"{origin}: holds no rows; a task needs at least one.")
    empty = [place for place, problem in zip(places, problems, strict=True) if not problem.gradable]
    if len(empty) != task.num_unanswered:
        raise InputError(
            f"{empty[0] if empty else origin}: {len(empty)} rows have an empty answer, "
            f"{task.num_unanswered} were expected; give every row a gold answer."
        )
    seen: dict[str, str] = {}
    for place, problem in zip(places, problems, strict=True):
        if problem.id in seen:
            raise InputError(f"{place}: id '{problem.id}' stands at {seen[problem.id]} already; ids must be distinct.")
        seen[problem.id] = place


def to_problem(row: Mapping[str, Any], place: str, index: int, task: Task, columns: Mapping[str, str]) -> Problem:
    """One row as a problem; the options of a multiple-choice question get letters and join its text.

    Raises:
        InputError: a column is missing, or the gold label is none of the options.
    """

    row = _with_options(row)

    def text(name: str) -> str:
        value = row.get(columns.get(name, name))
        if isinstance(value, list):  # several golds written as one list of one string
            value = ", ".join(map(str, value))
        return "" if value is None else str(value).strip()

    question = text("question") or text("problem")
    if not question:
        raise InputError(f"{place}: missing column 'question' (or 'problem'); found {sorted(row)}.")
    tests = unit_tests(row, place) if task.kind == "code" else ()
    instructions = _instructions(row, place) if "instruction_id_list" in row else ()
    if columns.get("answer", "answer") not in row and not tests and not instructions:
        raise InputError(f"{place}: missing column 'answer'; found {sorted(row)}.")
    answer = text("answer")
    choices = row.get(columns.get("choices", "choices")) or ()
    options: tuple[str, ...] = ()
    if tests and row.get("test_list"):  # only the tests name the function
        question = "\n".join([question, "It must pass these tests:", *row["test_list"]])
    if tests and row.get("starter_code"):  # LiveCodeBench
        question = "\n".join([question, "Complete this code:", str(row["starter_code"])])
    if choices:
        options, answer = lettered(choices, answer, place)
        question = "\n".join([question, *options])
    name = text("id") or f"{task.name}/{index}"
    if seconds := task.test_seconds.get(name):
        tests = tuple(replace(test, seconds=seconds) for test in tests)
    return Problem(
        id=name,
        question=question,
        answer=answer,
        solution=str(row.get(columns.get("solution", "solution")) or ""),  # as it is: code begins with blanks
        source=text("source") or task.name,
        level=text("level"),
        subject=text("subject"),
        cluster=text("cluster"),
        choices=options,
        accepted_answers=tuple(map(str, row.get("accepted_answers") or ())),
        tests=tests,
        instructions=instructions,
    )


def _with_options(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of GPQA, which has its right option and three wrong ones in columns, with `choices` and `answer`.

    Their order is random and always the same: it follows from the texts.
    """
    wrong = [f"Incorrect Answer {i}" for i in (1, 2, 3)]
    if not {"Correct Answer", *wrong} <= row.keys():
        return row
    texts = [str(row[name]).strip() for name in ("Correct Answer", *wrong)]
    order = sorted(range(4), key=lambda i: (stable_hash(str(row.get("Question")), texts[i]), i))
    return {**row, "choices": [texts[i] for i in order], "answer": LETTERS[order.index(0)]}


def _instructions(row: Mapping[str, Any], place: str) -> tuple[Instruction, ...]:
    """The instructions of a row of IFEval: names in `instruction_id_list`, arguments of each in `kwargs`."""
    names, arguments = row["instruction_id_list"], row.get("kwargs")
    if not isinstance(arguments, list) or len(arguments) != len(names):
        raise InputError(f"{place}: 'kwargs' must be a list with the arguments of each of {len(names)} instructions.")
    found = tuple(
        Instruction(name, json.dumps({key: value for key, value in given.items() if value is not None}))
        for name, given in zip(names, arguments, strict=True)
    )
    for instruction in found:
        check_instruction(instruction, place)
    return found


def lettered(choices: Any, answer: str, place: str) -> tuple[tuple[str, ...], str]:
    """Options as `(A) text` in order, and the gold label as a letter, whatever labels the source has.

    Args:
        choices: a list of options with or without labels, one string of labelled options, or a mapping that holds
            the lists `label` and `text` or maps labels to texts.
        answer: the gold label as in the source: a letter, or a digit where the source counts from 1.
    """
    labels, texts = _options(choices)
    if len(texts) > len(LETTERS):
        raise InputError(f"{place}: {len(texts)} options; at most {len(LETTERS)} can be labelled.")
    if answer not in labels:
        raise InputError(f"{place}: the gold answer '{answer}' is none of the options {labels}.")
    options = tuple(f"({letter}) {text}" for letter, text in zip(LETTERS, texts, strict=False))
    return options, LETTERS[labels.index(answer)]


def _options(choices: Any) -> tuple[list[str], list[str]]:
    if isinstance(choices, Mapping):
        if {"label", "text"} <= set(choices):
            return list(map(str, choices["label"])), list(map(str, choices["text"]))
        return list(map(str, choices)), list(map(str, choices.values()))
    if isinstance(choices, str):
        starts: list[re.Match[str]] = []
        for match in _OPTION.finditer(choices):
            if match[1] == LETTERS[len(starts)]:  # a letter out of turn is part of an option's text
                starts.append(match)
        ends = [match.start() for match in starts[1:]] + [len(choices)]
        texts = [choices[match.end() : end].strip() for match, end in zip(starts, ends, strict=True)]
        return [match[1] for match in starts], texts
    matches = [_LABEL.match(str(option)) for option in choices]
    labels = [match[1] for match in matches if match]
    expected = [list(LETTERS[: len(choices)]), [str(i + 1) for i in range(len(choices))]]
    if labels in expected:
        return labels, [str(option)[match.end() :] for option, match in zip(choices, matches, strict=True) if match]
    return list(LETTERS[: len(choices)]), list(map(str, choices))


def fetch(task: Task, folder: Path) -> tuple[Path, int]:
    """Write the rows of a task from the hub into a folder of task files; returns the file and how many they are.

    Raises:
        InputError: the task names no data set of the hub, it cannot be fetched, or its rows are not the published ones.
    """
    if task.hub is None:
        raise InputError(
            f"task '{task.name}' names no data set of the hub; take its rows from {task.source or 'its source'}, and "
            f"put them into {folder / task.file}.jsonl."
        )
    origin = f"{task.hub.dataset}@{task.hub.revision}"
    rows = _hub_rows(task)
    problems = [to_problem(row, f"{origin} row {i}", i, task, task.columns) for i, row in enumerate(rows)]
    check_rows(task, problems, [f"{origin} row {i}" for i in range(len(rows))], origin)
    path = folder / f"{task.file}.jsonl"
    write_rows(path, rows)
    return path, len(rows)


def _hub_rows(task: Task) -> list[dict[str, Any]]:
    """The rows of a task on the hub, in the columns that its file has."""
    hub = task.hub
    assert hub is not None
    try:
        rows: Iterable[Any] = load_hub(Source(hub.dataset, hub.split, hub.config, hub.revision))
    except InputError as error:
        reason = first_line(error.__cause__ or error)
        raise InputError(
            f"task '{task.name}': {hub.dataset} cannot be fetched from the hub ({reason}); point --data_dir or "
            f"{DATA_DIR} at a folder that holds {task.file}.jsonl or {task.file}.jsonl.gz."
        ) from None
    return [_in_file_columns(dict(row), task) for row in rows]


def _in_file_columns(row: dict[str, Any], task: Task) -> dict[str, Any]:
    hub = task.hub
    assert hub is not None
    named = {name: hub.columns.get(name, name) for name in {**hub.columns, **task.columns}}
    moved = {task.columns.get(name, name): row[column] for name, column in named.items() if column in row}
    if hub.answer_marker:
        moved[task.columns.get("answer", "answer")] = str(row[hub.columns["solution"]]).rpartition(hub.answer_marker)[2]
    return {name: value for name, value in row.items() if name not in named.values()} | moved
