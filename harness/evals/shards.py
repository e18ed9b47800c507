"""An evaluation in shards (`harness.rollouts.shards`): each one is an evaluation in a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.evals.evaluation import Evaluation
from harness.evals.rows import TaskData
from harness.evals.run import asked, made_by_of
from harness.evals.samples import RESULTS, read_results
from harness.provenance import describe_differences, differences
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.shards import DrawnEngine, Shard, named_shard, whole_of

SHARDS = "shards"
"""Folder in that of the evaluation which holds those of its shards."""


def part_of(data: TaskData, shard: Shard) -> TaskData:
    """The problems of a task that are a shard's."""
    whole = data.total or len(data.problems)
    return replace(data, problems=tuple(shard.part(data.problems)), total=whole, shard=str(shard))


def shard_folder(output: Path, shard: Shard) -> Path:
    """Of a shard's evaluation, in the folder of the whole."""
    return output / SHARDS / shard.name


def finished_shards(output: Path) -> list[Path]:
    """Folders of all shards in an evaluation's folder that are finished."""
    return sorted(path.parent for path in (output / SHARDS).glob(f"*/{RESULTS}") if named_shard(path.parent.name))


def shards_to_merge(output: Path, num_problems: int) -> list[Path]:
    """Folders of the shards that make up an evaluation of so many problems; raises `InputError` as `whole_of` does."""
    finished = (shard for path in finished_shards(output) if (shard := named_shard(path.name)))
    return [shard_folder(output, shard) for shard in whole_of(finished, num_problems, output, "eval")]


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


def engine_of_shards(folder: Path, model: str) -> DrawnEngine:
    """Stands for the engine from which the shards drew; raises `InputError` if those were other weights.

    Args:
        model: checkpoint whose samples are merged; "" where a server's name stands for its weights.
    """
    results = read_results(folder)
    engine: dict[str, Any] = results["provenance"]["asked"]["engine"]
    return DrawnEngine(
        folder,
        results["engine"],
        results["hashes"]["weights"],
        engine["dtype"],
        engine["max_context"],
        engine.get("seeds", "request"),
        model,
    )
