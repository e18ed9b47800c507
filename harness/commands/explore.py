"""`harness explore`: find where wrong responses go wrong, and write preference pairs at those steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.engines.config import EngineConfig
from harness.errors import InputError
from harness.search.step_explore import StepExplore
from harness.selection.first_pit import FirstPitPairs
from harness.selection.outcome_pairs import DistancePairs, WrittenPairs
from harness.types import Rollout, SamplingConfig


def explore(
    model: str,
    rollouts: list[str],
    output: Path,
    rows: Path,
    pair_rows: Path | None = None,
    pairs: DistancePairs | None = None,
    search: StepExplore = StepExplore(),  # noqa: B008 - frozen
    first_pit: FirstPitPairs = FirstPitPairs(),  # noqa: B008 - frozen
    sampling: SamplingConfig = SamplingConfig(temperature=0.7),
    template: str | dict[str, Any] = "plain",
    engine: EngineConfig = EngineConfig(),
    grader: str = "strict",
    limit: int | None = None,
    compare: Path | None = None,
) -> int:
    """Continue the rejected responses of outcome pairs from each of their steps; a killed run continues.

    Beside the rows goes a manifest of the same name in .json: why explored responses gave no pair, where the pits are,
    what was sampled against a plain scan, hashes of the files.

    Args:
        model: checkpoint directory or hub id of the explorer, of the same tokenizer as the rollouts' policy.
        rollouts: JSONL files of scored rollouts.
        output: JSONL file of explored responses, one problem a line; appended as they are finished.
        rows: file of the pairs at the first pit.
        pair_rows: outcome pairs whose rejected responses are explored: the file that `harness rollout` wrote.
        pairs: in place of such a file, how to take the pairs from the rollouts.
        search: how steps are explored.
        first_pit: what is chosen and rejected at a pit.
        sampling: how continuations are sampled; `n` is that of the search.
        template: name of the prompt template the rollouts were sampled with.
        engine: which engine samples, and its memory.
        grader: name of the grader.
        limit: only the first so many problems.
        compare: explorations of the same responses, such as by another order, to compare the pits with.
    """
    from harness.engines import open_engine
    from harness.models.checkpoints import load_tokenizer
    from harness.progress import track
    from harness.prompts.find import find_template
    from harness.rewards.outcome import Outcome
    from harness.rollouts.dispatcher import Dispatcher
    from harness.rollouts.explorations import Explored, agreement, collect_explorations, cost, retokenized, statistics
    from harness.store import file_hash, read_rows, write_json, write_rows

    pairing: object
    if pair_rows is not None and pairs is None:
        paired, pairing, hashed = WrittenPairs(pair_rows).paired, file_hash(pair_rows), [pair_rows]
    elif pairs is not None and pair_rows is None:
        paired, pairing, hashed = pairs.paired, pairs, []
    else:
        raise InputError(
            "give the outcome pairs, either as `pair_rows`, a file of them, or as `pairs`, the way to them."
        )
    known = {row.problem.id: row for path in rollouts for row in read_rows(path, Rollout)}
    known = dict(list(known.items())[:limit])
    others = read_rows(compare, Explored) if compare is not None else []
    opened = open_engine(model, engine)
    try:
        dispatcher = Dispatcher(opened, load_tokenizer(model), find_template(template), Outcome(), grader=grader)
        with track(len(known), "explorations") as progress:
            source = " ".join(map(file_hash, rollouts))
            explored = collect_explorations(
                output,
                known,
                paired,
                dispatcher,
                search,
                sampling,
                pairing=pairing,
                source=source,
                progress=progress.advance,
            )
    finally:
        opened.close()
    found, dropped = first_pit(explored, lambda problem: dispatcher.template.render(problem, dispatcher.tokenizer))
    manifest: dict[str, object] = {
        "num_rows": len(found),
        "dropped": dropped,
        **statistics(explored),
        "cost": cost(explored, search),
        "num_prefixes_with_other_tokens": retokenized(explored, dispatcher),
        "weights": opened.version,
        "hashes": {str(path): file_hash(path) for path in [*map(Path, rollouts), *hashed, output]},
    }
    if others:
        same, number = agreement(explored, others)
        manifest["agreement"] = {"with": str(compare), "share": round(same, 4), "responses": number}
    for name, value in manifest.items():
        print(f"{name:32} {value}")
    if not found:
        raise InputError(f"no explored response gave a pair ({dropped}); sample more responses or another policy.")
    write_rows(rows, found)
    write_json(rows.with_suffix(".json"), manifest)
    print(f"{rows}: {len(found)} rows")
    return 0
