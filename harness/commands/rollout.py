"""`harness rollout`: sample and score responses to a file of problems, and write training rows from them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.engines.config import EngineConfig
from harness.errors import InputError
from harness.protocols import Reward, SearchMethod, Selector
from harness.sandbox import Sandbox
from harness.types import Problem, Rollout, RolloutConfig, SamplingConfig


def rollout(
    model: str,
    output: Path,
    problems: list[str | dict[str, Any]] | None = None,
    start: list[str] | None = None,
    sampling: SamplingConfig = SamplingConfig(n=8),
    template: str | dict[str, Any] = "plain",
    search: SearchMethod | None = None,
    reward: Reward | None = None,
    select: Selector | None = None,
    reward_threshold: float = 0.0,
    rows: Path | None = None,
    pairs: Selector | None = None,
    pair_rows: Path | None = None,
    sandbox: Sandbox | None = None,
    engine: EngineConfig = EngineConfig(),
    grader: str = "strict",
    limit: int | None = None,
    shard: str = "",
) -> int:
    """Sample, grade and score responses to problems; a run that was killed continues where it stopped.

    Args:
        model: checkpoint directory or hub id of the policy.
        output: JSONL file of scored rollouts, one problem a line; while it is made, what is finished lies in
            `OUTPUT.part0`.
        problems: files of problems with answers (JSONL, parquet, ..., a folder, a data set of the hub, or a mapping
            with path, split, columns, limit); default are those of `start`.
        start: JSONL files of rollouts that the search extends, of a policy with the same tokenizer.
        sampling: how to sample.
        template: name of the prompt template.
        search: how responses are found; default is independent samples.
        reward: of the responses; default is the outcome alone.
        select: turns rollouts into training rows (`TopK` for supervised rows, `OutcomePairs` for preference pairs,
            `StepLabels` for process supervision).
        reward_threshold: rewards must be above it to be selected.
        rows: file of the selected rows; goes with `select`. A .json of the same name counts what was left out.
        pairs: takes preference pairs from the same rollouts, for a stage that needs both.
        pair_rows: file of those; goes with `pairs`.
        sandbox: runs the programs of searches with code.
        engine: which engine samples, and its memory.
        grader: name of the grader.
        limit: only the first so many problems.
        shard: for clusters, where each job takes a part: 3/64 samples every 64th problem from the third on, into a file
            of its own in `OUTPUT.shards`; merge, once all are finished, makes OUTPUT of them, selects, and opens no
            engine.
    """
    from harness.engines import open_engine
    from harness.metrics.monitors import monitors
    from harness.models.checkpoints import load_tokenizer
    from harness.problems import read_all_problems
    from harness.progress import track
    from harness.prompts.find import find_template
    from harness.rewards.outcome import Outcome
    from harness.rollouts.collect import collect, grade_again
    from harness.rollouts.dispatcher import Dispatcher
    from harness.rollouts.log import RolloutLog
    from harness.rollouts.shards import (
        MERGE,
        Shard,
        engine_of_rollouts,
        parse_shard,
        rollout_file,
        rollouts_to_merge,
    )
    from harness.rollouts.step_ends import with_step_ends
    from harness.store import file_hash, read_rows, write_json, write_rows

    for choice, file, names in ((select, rows, "select and rows"), (pairs, pair_rows, "pairs and pair_rows")):
        if (choice is None) != (file is None):
            raise InputError(f"{names} go together: one says what to take, the other where to write it.")
    part = parse_shard(shard)
    if part is not None and engine.is_url:
        raise InputError(f"--shard {shard} is for jobs with engines of their own; give all servers to one command.")
    begun = {rollout.problem.id: rollout for path in start or () for rollout in read_rows(path, Rollout)}
    if not problems and not begun:
        raise InputError("give problems to sample for, or rollouts to start from.")
    wanted = (read_all_problems(problems) if problems else [rollout.problem for rollout in begun.values()])[:limit]
    shards = rollouts_to_merge(output, wanted) if part == MERGE else []
    if isinstance(part, Shard):
        whole, wanted, output = output, list(part.part(wanted)), rollout_file(output, part)
        if not wanted:
            print(f"{whole}: shard {part} holds none of its problems")
            return 0
    opened = engine_of_rollouts(rollout_file(output, shards[0]), model) if shards else open_engine(model, engine)
    try:
        dispatcher = Dispatcher(
            opened, load_tokenizer(model), find_template(template), reward or Outcome(), sandbox, grader
        )
        made_by = dispatcher.provenance(search, start=[file_hash(path) for path in start or ()])

        def judge(rows: Sequence[Rollout]) -> Iterable[Rollout]:
            return grade_again(rows, dispatcher, search=search, reward=reward, grader=grader)

        def draw(part: Iterable[Problem], window: int) -> Iterable[Rollout]:
            known = {
                problem.id: with_step_ends(begun[problem.id], dispatcher.prompt_ids(problem), dispatcher.tokenizer)
                for problem in wanted
                if problem.id in begun
            }
            return collect(
                part,
                dispatcher,
                sampling,
                search=search,
                reward=reward,
                grader=grader,
                start=known,
                max_in_flight=window,
            )

        drawn: dict[str, Rollout] = {}
        for each in shards:
            with RolloutLog(rollout_file(output, each), made_by, judge) as log:
                drawn |= {row.problem.id: row for row in log.block(each.part(wanted), sampling, draw)}

        def take(part: Iterable[Problem], window: int) -> Iterable[Rollout]:
            return (drawn[problem.id] for problem in part)

        with (
            RolloutLog(output, made_by, judge) as log,
            track(len(wanted), "rollouts") as progress,
        ):
            rollouts = log.block(
                wanted,
                sampling,
                take if shards else draw,
                progress=lambda done: progress.advance(done - progress.done),
            )
    finally:
        opened.close()
    for name, value in monitors(rollouts, reward or Outcome()).items():
        print(f"{name:28} {value:.4g}")
    if isinstance(part, Shard):
        return 0
    config = RolloutConfig(replace(sampling), reward_threshold)
    for choice, file in ((select, rows), (pairs, pair_rows)):
        if choice is None or file is None:
            continue
        selected, counts = choice(
            rollouts, config, lambda problem: dispatcher.template.render(problem, dispatcher.tokenizer)
        )
        if not selected:
            print(
                f"error: no row was selected ({dict(counts)}); lower reward_threshold or sample more.", file=sys.stderr
            )
            return 2
        write_rows(file, selected)
        write_json(file.with_suffix(".json"), {"counts": dict(counts), "rollouts": file_hash(output)})
        print(f"{file}: {len(selected)} rows ({', '.join(f'{name} {value:.4g}' for name, value in counts.items())})")
    return 0
