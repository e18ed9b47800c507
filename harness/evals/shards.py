"""An evaluation in shards: jobs that know nothing of one another each take every n-th problem; one more merges them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.engines.weights import checkpoint_version
from harness.errors import EngineError, InputError
from harness.evals.evaluation import Evaluation
from harness.evals.rows import TaskData
from harness.evals.run import asked, made_by_of
from harness.evals.samples import RESULTS, read_results
from harness.models.checkpoints import resolve_checkpoint
from harness.provenance import describe_differences, differences
from harness.rollouts.dispatcher import Dispatcher
from harness.types import GenerationRequest, GenerationResult

SHARDS = "shards"
"""Folder in that of the evaluation which holds those of its shards."""
MERGE: Literal["merge"] = "merge"
NAME = re.compile(r"[1-9]\d*-of-[1-9]\d*")


@dataclass(frozen=True)
class Shard:
    """One of so many equal parts of a task."""

    number: int
    """From 1."""
    of: int

    def part(self, data: TaskData) -> TaskData:
        """Every `of`-th problem, so that a file in order of difficulty gives parts of equal length."""
        whole = data.total or len(data.problems)
        return replace(data, problems=data.problems[self.number - 1 :: self.of], total=whole, shard=str(self))

    def folder(self, output: Path) -> Path:
        return output / SHARDS / f"{self.number}-of-{self.of}"

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse_shard(text: str) -> Shard | Literal["merge"] | None:
    """What `--shard` says: a shard such as 3/64, `MERGE`, or nothing; raises `InputError` for anything else."""
    if text in ("", MERGE):
        return MERGE if text else None
    if not (found := re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text, re.ASCII)) or int(found[1]) > int(found[2]):
        raise InputError(f"--shard '{text}': write 3/64 for the third of 64 shards, and merge once all are finished.")
    return Shard(int(found[1]), int(found[2]))


def finished_shards(output: Path) -> list[Path]:
    """Folders of all shards in an evaluation's folder that are finished."""
    return sorted(
        path.parent for path in (output / SHARDS).glob(f"*-of-*/{RESULTS}") if NAME.fullmatch(path.parent.name)
    )


def shards_to_merge(output: Path, num_problems: int) -> list[Path]:
    """Folders of the shards that make up an evaluation of so many problems.

    Raises:
        InputError: some of them are not finished; the sentence names them.
    """
    found: dict[int, set[int]] = {}
    for folder in finished_shards(output):
        number, of = map(int, folder.name.split("-of-"))
        found.setdefault(of, set()).add(number)
    if not found:
        raise InputError(f"{output}: holds no finished shard; run `harness eval` with --shard 1/N to N/N there first.")
    wanted = {of: set(range(1, min(of, num_problems) + 1)) for of in found}
    missing, of = min((sorted(wanted[of] - found[of]), of) for of in found)
    if missing:
        names, one = ", ".join(map(str, missing)), len(missing) == 1
        raise InputError(
            f"{output}: shard{'' if one else 's'} {names} of {of} {'is' if one else 'are'} not finished; run "
            f"{'it' if one else 'them'} with --shard {missing[0]}/{of}{'' if one else ' and so on'}, then merge again."
        )
    return [Shard(number, of).folder(output) for number in sorted(wanted[of])]


def check_alike(folders: Sequence[Path], evaluation: Evaluation, dispatcher: Dispatcher) -> None:
    """Raise `InputError` if a shard was asked otherwise than the whole is."""
    now = asked(evaluation, made_by_of(evaluation, dispatcher))
    for folder in folders:
        then = read_results(folder)["provenance"]["asked"]
        if found := differences({**then, "limit": None}, {**now, "limit": None}):
            raise InputError(
                f"{folder / RESULTS}: is of another {describe_differences(found)}; merge with the options of the "
                "shards, or run the shards again in another output."
            )


class ShardsEngine:
    """Stands for the engine from which the shards drew, so that merging needs no accelerator; draws nothing itself.

    Args:
        model: checkpoint whose samples are merged; a server's name stands for its weights.

    Raises:
        InputError: the shards drew from other weights.
    """

    def __init__(self, folder: Path, model: str, is_server: bool) -> None:
        results = read_results(folder)
        engine: dict[str, Any] = results["provenance"]["asked"]["engine"]
        self.name, self.version = results["engine"], results["hashes"]["weights"]
        self.dtype, self.max_context = engine["dtype"], engine["max_context"]
        self.seeds = engine.get("seeds", "request")
        if not is_server and (now := checkpoint_version(resolve_checkpoint(model))) != self.version:
            raise InputError(
                f"{folder}: its samples are of the weights {self.version}, and those of {model} are {now}; "
                "merge with the model that was sampled from."
            )

    def submit(self, request: GenerationRequest) -> None:
        problem = request.key.partition("/")[2]
        raise InputError(
            f"the shards hold too few samples of problem '{problem}' as asked now (with a larger --n, or another "
            "--limit?); run the shards again with these options, then merge."
        )

    def poll(self) -> list[GenerationResult]:
        return []

    @property
    def num_pending(self) -> int:
        return 0

    def sync(self, weights: Iterable[tuple[str, Any]], version: str) -> None:
        raise EngineError("shards that were drawn already cannot take weights.")

    def sleep(self) -> None:
        """Nothing: there is no engine."""

    def wake(self) -> None:
        """Nothing: there is no engine."""

    def close(self) -> None:
        """Nothing: there is no engine."""
