"""A task is data: where its rows come from, how many there are, and how they are asked and graded.

The shipped tasks are the YAML files in `tasks/`, one each; a YAML file of the user's, and the path of a file or folder
of problems, are tasks as well.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from harness.errors import InputError
from harness.sources import suffix_of
from harness.store import from_mapping, read_yaml

DATA_DIR = "HARNESS_DATA_DIR"
"""Environment variable that names the folder of task files."""

Kind = Literal["math", "choice", "code", "text"]
TASK_FOLDER = Path(__file__).parent / "tasks"
GROUPS: dict[str, tuple[Kind, ...]] = {
    "all-math": ("math",),
    "all-choice": ("choice",),
    "all-code": ("code",),
    "all-text": ("text",),
    "all": ("math", "choice", "code", "text"),
}
"""Groups by kind; others are named by the tasks that belong to them (`Task.groups`)."""


@dataclass(frozen=True)
class Hub:
    """A data set on the model hub, at one fixed commit."""

    dataset: str
    revision: str
    """Commit hash; the rows can never change under a task."""
    split: str = "test"
    config: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column of the data set for each field of `Problem`."""
    answer_marker: str = ""
    """The gold answer is what follows this marker in the solution."""


@dataclass(frozen=True)
class Task:
    """One benchmark."""

    name: str
    description: str = ""
    source: str = ""
    """Repository or data set from which the rows were taken."""
    licence: str = ""
    file: str = ""
    """Name of the file in the data folder, without `.jsonl` or `.jsonl.gz`; a full path for a user's file or folder."""
    split: str = ""
    """Of a folder; "test" where there are several and none is named."""
    num_rows: int | None = None
    """Published number of rows; a file with another number is refused. None for a user's own file."""
    num_unanswered: int = 0
    """Rows without a gold answer, which are left out; another number is refused as well."""
    kind: Kind = "math"
    groups: tuple[str, ...] = ()
    """Further names under which it is found together with others, such as competition and robustness."""
    held: str = ""
    """Month in which the problems became public, such as 2025-02; "" where that is not one moment."""
    variants_of: str = ""
    """The task whose problems these were made from; their `cluster` is the id there."""
    protocol: str | Mapping[str, Any] = "boxed"
    """The default prompt template, by name or by its fields; it names the answer protocol too."""
    grader: str = "strict"
    test_seconds: Mapping[str, float] = field(default_factory=dict)
    """By the id of a problem, what its unit tests may take where its reference needs more than a second: EvalPlus's
    rule, max(4 s, 4 x the reference's time). All others may take the 4 s that `UnitTests` gives."""
    max_tokens: int = 1024
    """Default token limit of a response."""
    temperature: float = 0.0
    """Default temperature for one sample; several are drawn at `sampled_temperature`."""
    sampled_temperature: float = 0.8
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column of the file for a field of `Problem`, where the names differ."""
    hub: Hub | None = None
    """Where to fetch the rows if the data folder does not hold the file."""

    def default_temperature(self, several: bool) -> float:
        return self.sampled_temperature if several else self.temperature

    @property
    def num_problems(self) -> int | None:
        """Rows that are asked."""
        return None if self.num_rows is None else self.num_rows - self.num_unanswered


@cache
def shipped_tasks() -> Mapping[str, Task]:
    """All tasks that come with the project, by name."""
    return {path.stem: _read_task(path) for path in sorted(TASK_FOLDER.glob("*.yaml"))}


def _read_task(path: Path) -> Task:
    """A task from its YAML file; a user's `file` is found from the YAML file's folder, and may leave out the name."""
    data = read_yaml(path)
    hub = data.pop("hub", None)
    task = from_mapping(Task, {"name": path.stem, **data}, str(path))
    if hub is not None:
        if not isinstance(hub, dict):
            raise InputError(f"{path}: hub is {hub!r}; give it dataset, revision and what else it needs as a mapping.")
        task = replace(task, hub=from_mapping(Hub, hub, f"{path}: hub"))
    if path.parent == TASK_FOLDER:
        return task
    if not task.file and task.hub is None:
        raise InputError(f"{path}: says not where its rows are; give file (such as a JSONL file) or hub.")
    if task.file and not (file := (path.parent / task.file).resolve()).exists():
        raise InputError(f"{path}: file: {file}: no such file; give one seen from the YAML file's folder.")
    return replace(task, file=str(file)) if task.file else task


def find_tasks(names: str) -> list[Task]:
    """The tasks of a comma-separated list of names, groups (`all-math`) and paths of JSONL or YAML files, each once.

    Raises:
        InputError: an unknown name (the message gives the nearest one), or an empty list.
    """
    found: dict[str, Task] = {}
    for name in filter(None, (part.strip() for part in names.split(","))):
        for task in _find(name):
            found.setdefault(task.file or task.name if _is_path(name) else task.name, task)
    if not found:
        raise InputError("no task given; name one or several, such as gsm8k,math500.")
    return list(found.values())


@cache
def groups() -> Mapping[str, tuple[str, ...]]:
    """Names of tasks by group: of each kind, and those that tasks name."""
    found = {
        group: tuple(name for name, task in shipped_tasks().items() if task.kind in kinds)
        for group, kinds in GROUPS.items()
    }
    named = sorted({group for task in shipped_tasks().values() for group in task.groups})
    return found | {
        group: tuple(name for name, task in shipped_tasks().items() if group in task.groups) for group in named
    }


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) or suffix_of(name) is not None or "/" in name or Path(name).is_dir()


def _find(name: str) -> list[Task]:
    tasks = shipped_tasks()
    if name in tasks:
        return [tasks[name]]
    if name in groups():
        return [tasks[each] for each in groups()[name]]
    if _is_path(name):
        return [_read_task(Path(name)) if name.endswith((".yaml", ".yml")) else user_task(Path(name))]
    known = [*tasks, *groups()]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}."
    raise InputError(f"unknown task '{name}'; {hint}")


def user_task(path: Path) -> Task:
    """A user's own file or folder of problems as a task.

    Raises:
        InputError: no such file.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; give a file with the columns question (or problem) and answer.")
    name = path.name.removesuffix(".gz").removesuffix(suffix_of(path) or "")
    return Task(name=name, source=str(path), file=str(path.resolve()))


def data_folder(data_dir: str | Path | None) -> Path | None:
    """The folder of task files: the argument, else the environment variable, else none.

    Raises:
        InputError: it is named but not there.
    """
    folder = data_dir or os.environ.get(DATA_DIR)
    if not folder:
        return None
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InputError(f"{path}: no such folder of task files; correct --data_dir or {DATA_DIR}.")
    return path
