"""Work in shards: jobs that know nothing of one another take every n-th problem each; one more merges them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from harness.engines.weights import checkpoint_version
from harness.errors import EngineError, InputError
from harness.models.checkpoints import resolve_checkpoint
from harness.store import read_json, read_jsonl
from harness.types import GenerationRequest, GenerationResult, Problem

Item = TypeVar("Item")

MERGE: Literal["merge"] = "merge"
NAME = re.compile(r"([1-9]\d*)-of-([1-9]\d*)", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """One of so many equal parts of a list of problems."""

    number: int
    """From 1."""
    of: int

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every `of`-th, so that a file in order of difficulty gives parts of equal length."""
        return items[self.number - 1 :: self.of]

    @property
    def name(self) -> str:
        """Of its file or folder."""
        return f"{self.number}-of-{self.of}"

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse_shard(text: str) -> Shard | Literal["merge"] | None:
    """What `--shard` says: a shard such as 3/64, `MERGE`, or nothing; raises `InputError` for anything else."""
    if text in ("", MERGE):
        return MERGE if text else None
    if not (found := re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text, re.ASCII)) or int(found[1]) > int(found[2]):
        raise InputError(f"--shard '{text}': write 3/64 for the third of 64 shards, and merge once all are finished.")
    return Shard(int(found[1]), int(found[2]))


def named_shard(name: str) -> Shard | None:
    """The shard whose file or folder is called so; None if it is that of none."""
    found = NAME.fullmatch(name)
    return Shard(int(found[1]), int(found[2])) if found else None


def whole_of(finished: Iterable[Shard], num_problems: int, output: Path, command: str) -> list[Shard]:
    """The shards that make up so many problems.

    Args:
        finished: all that are, of whichever number.
        output, command: where they are and what makes them, for errors.

    Raises:
        InputError: some of them are not finished; the sentence names them.
    """
    found: dict[int, set[int]] = {}
    for shard in finished:
        found.setdefault(shard.of, set()).add(shard.number)
    if not found:
        raise InputError(
            f"{output}: holds no finished shard; run `harness {command}` with --shard 1/N to N/N there first."
        )
    wanted = {of: set(range(1, min(of, num_problems) + 1)) for of in found}
    missing, of = min((sorted(wanted[of] - found[of]), of) for of in found)
    if missing:
        names, one = ", ".join(map(str, missing)), len(missing) == 1
        raise InputError(
            f"{output}: shard{'' if one else 's'} {names} of {of} {'is' if one else 'are'} not finished; run "
            f"{'it' if one else 'them'} with --shard {missing[0]}/{of}{'' if one else ' and so on'}, then merge again."
        )
    return [Shard(number, of) for number in sorted(wanted[of])]


class DrawnEngine:
    """Stands for the engine from which shards drew, so that merging needs no accelerator; draws nothing itself.

    Args:
        place: where its samples are, for errors.
        name, version, dtype, max_context, seeds: those of the engine.
        model: checkpoint whose samples are merged; "" where the name of a server stands for its weights.

    Raises:
        InputError: the shards drew from other weights.
    """

    def __init__(
        self, place: Path, name: str, version: str, dtype: str, max_context: int, seeds: str, model: str
    ) -> None:
        self.name, self.version, self.dtype, self.max_context, self.seeds = name, version, dtype, max_context, seeds
        if model and (now := checkpoint_version(resolve_checkpoint(model))) != version:
            raise InputError(
                f"{place}: its samples are of the weights {version}, and those of {model} are {now}; "
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


# Of files of rollouts.


def rollout_file(output: Path, shard: Shard) -> Path:
    """Where a shard of a file of rollouts is written."""
    return output.with_name(f"{output.name}.shards") / f"{shard.name}.jsonl"


def rollouts_to_merge(output: Path, problems: Sequence[Problem]) -> list[Shard]:
    """The shards that make up a file of rollouts of these problems; raises `InputError` as `whole_of` does."""

    def finished() -> Iterator[Shard]:
        for path in rollout_file(output, Shard(1, 1)).parent.glob("*.jsonl"):
            if (shard := named_shard(path.stem)) is None:
                continue
            with path.open("rb") as lines:
                count = sum(line.endswith(b"\n") for line in lines)
            if count and count >= len(shard.part(problems)):
                yield shard

    return whole_of(finished(), len(problems), output, "rollout")


def engine_of_rollouts(file: Path, model: str) -> DrawnEngine:
    """Stands for the engine that drew the rollouts of a shard.

    Raises:
        InputError: the shard does not say what it was, or drew from other weights.
    """
    _, row = next(read_jsonl(file))
    said = file.with_name(f"{file.name}.provenance")
    drawn = read_json(said, "run the shard again").get(row.get("provenance", ""), {}).get("drawn")
    if not drawn:
        raise InputError(f"{said}: does not say what drew the rows of {file.name}; run the shard again.")
    engine = drawn["engine"]
    seeds = engine.get("seeds", "request")
    return DrawnEngine(file, engine["kind"], drawn["weights"], engine["dtype"], engine["max_context"], seeds, model)
