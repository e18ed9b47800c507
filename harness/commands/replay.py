"""`harness replay`: what another scheduler, selection or reward would have chosen, from the samples a run has kept."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import lazy_instance, set_parsing_settings

from harness.errors import InputError
from harness.objectives.objective import Objective
from harness.protocols import Reward, SamplingScheduler, Selector
from harness.rollouts.iteration import IterationFiles, read_manifest, with_hinted
from harness.rollouts.log import GROUP, stored_rollouts
from harness.selection.policy_rows import PolicyRows
from harness.selection.top_k import TopK
from harness.store import stream_rows, to_row, write_json
from harness.streams import Lazy
from harness.types import PolicyExample, Problem, Rollout, RolloutConfig, SamplingConfig, SFTExample

# A preset of an objective is a subclass of it.
set_parsing_settings(subclasses_enabled=[Objective])

COLUMNS = ("iteration", "temperature", "threshold", "balance_score", "rows", "wrong_share", "also_in_run")
CREDIT_COLUMNS = ("zero_spread_share", "advantage_std", "advantage_right", "advantage_wrong")
"""What `PolicyRows` says of its credit."""
MOVED_COLUMNS = ("ratio_max", "kl_old", "kept_share", "gradient_share")
"""What a trust region would leave of the gradient at another policy; see `harness.objectives.surrogate`."""
BATCH_TOKENS = 16384


class StoredProbe:
    """Implements `harness.protocols.Probe` over the probe samples of a finished iteration; samples nothing."""

    def __init__(self, rollouts: Sequence[Rollout], path: Path) -> None:
        self._rollouts, self._path = rollouts, path
        self._by_temperature: dict[float, list[int]] = {}
        for number, rollout in enumerate(rollouts):
            self._by_temperature.setdefault(rollout.sampling.temperature, []).append(number)

    @property
    def num_problems(self) -> int:
        return max(map(len, self._by_temperature.values()), default=0)

    def __call__(self, sampling: SamplingConfig, start: int = 0, stop: int | None = None) -> Sequence[Rollout]:
        rows = self._by_temperature.get(sampling.temperature, [])
        wanted = len(range(*slice(start, stop).indices(self.num_problems)))
        if len(rows[start:stop]) < wanted:
            raise InputError(
                f"{self._path}: holds {len(rows)} probed problems at temperature {sampling.temperature:g}, "
                f"{self.num_problems} are needed; known temperatures: {sorted(self._by_temperature)}."
            )

        def drawn(number: int) -> Rollout:
            row = self._rollouts[number]
            return replace(row, responses=row.responses[: sampling.n])

        return Lazy(drawn, rows[start:stop])


def replay(
    run: Path,
    scheduler: SamplingScheduler | None = None,
    select: Selector = lazy_instance(TopK),  # noqa: B008 - so that --select.max_per_problem alone is enough
    reward: Reward | None = None,
    output: Path | None = None,
    policy: str | None = None,
    template: str | dict[str, Any] = "plain",
) -> int:
    """Say for each iteration of a finished run what would have been chosen and trained on; samples nothing.

    Args:
        run: run directory, which holds `rollouts/`.
        scheduler: decides on the stored probe samples; default keeps each iteration's decision.
        select: chooses the training rows from the stored samples.
        reward: scores the stored samples anew; default keeps their rewards.
        output: JSON file of the result.
        policy: a model that the run has come to, such as its `hf` or a checkpoint of an iteration. For the rows of
            `PolicyRows` it says how far that model has moved from the policy that drew them, and what the objective's
            trust region and engine correction would leave of their gradient there. Old log-probabilities are the
            engine's, so all must be sampled at temperature 1.
        template: name of the prompt template of the run; read with `policy` only.
    """
    moved = Moved(policy, template) if policy is not None else None
    if moved is not None and not isinstance(select, PolicyRows):
        raise InputError("`policy` is for trust regions; name an objective too (--select PolicyRows).")
    folder = run / "rollouts"
    manifests = sorted(folder.glob("iter_[0-9][0-9][0-9].json"))
    if not manifests:
        raise InputError(f"{folder}: holds no finished iteration (iter_NNN.json); give the directory of a run.")
    results = [_replay_one(folder, path, scheduler, select, reward, moved) for path in manifests]
    columns = list(COLUMNS)
    if any("advantage_std" in (row["counts"] or {}) for row in results):
        columns += CREDIT_COLUMNS
        results = [{**dict.fromkeys(CREDIT_COLUMNS), **(row["counts"] or {}), **row} for row in results]
    columns += MOVED_COLUMNS if moved is not None else ()
    print("  ".join(f"{name:>13}" for name in columns))
    for row in results:
        print("  ".join(f"{_shown(row[name]):>13}" for name in columns))
    if output is not None:
        write_json(output, results)
    return 0


def _replay_one(
    folder: Path,
    path: Path,
    scheduler: SamplingScheduler | None,
    select: Selector,
    reward: Reward | None,
    moved: Moved | None,
) -> dict[str, Any]:
    manifest = read_manifest(path)
    files = IterationFiles(folder, manifest["iteration"])
    decided = to_row(RolloutConfig, manifest["config"], str(path))
    rollouts = rescored(stored_rollouts(files.rollouts), reward)
    config, account = decided, manifest["decision"]
    if scheduler is not None:
        probe = StoredProbe(rescored(stored_rollouts(files.probe), reward), files.probe)
        config, account = scheduler.refine(scheduler.decide(manifest["iteration"], probe), rollouts)
    result: dict[str, Any] = {
        "iteration": manifest["iteration"],
        "temperature": config.sampling.temperature,
        "threshold": config.reward_threshold,
        "balance_score": account.get("balance_score"),
        "decision": account,
        "rows": None,
        "wrong_share": None,
        "also_in_run": None,
        "counts": None,
    }
    # The training problems were sampled at the temperature of the run; another one's rows are not known.
    if config.sampling.temperature == decided.sampling.temperature:
        if files.hinted.exists():
            rollouts = with_hinted(rollouts, rescored(stored_rollouts(files.hinted), reward))
        rows, counts = select(rollouts, config, lambda problem: problem.id)
        # By their hashes, which are much smaller.
        chosen = {hash((row.problem_id, row.response)) for row in rows if isinstance(row, SFTExample | PolicyExample)}
        trained = {hash((row.problem_id, row.response)) for row in stream_rows(files.train, SFTExample)}
        result |= {"rows": len(rows), "wrong_share": counts.get("wrong_share"), "counts": dict(counts)}
        result["also_in_run"] = len(chosen & trained) / max(len(chosen), 1)
        if moved is not None and isinstance(select, PolicyRows):
            problems = {rollout.problem.id: rollout.problem for rollout in rollouts}
            examples = [row for row in rows if isinstance(row, PolicyExample)]
            result |= moved.account(examples, problems, select.objective, str(files.rollouts))
    elif moved is not None:
        result |= dict.fromkeys(MOVED_COLUMNS)
    return result


class Moved:
    """A policy whose distance from the one that drew some rows is measured."""

    def __init__(self, checkpoint: str, template: str | dict[str, Any]) -> None:
        import torch

        from harness.models.checkpoints import load_tokenizer
        from harness.models.weights import load_causal_lm
        from harness.prompts.find import find_template

        self.template, self.tokenizer = find_template(template), load_tokenizer(checkpoint)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model: torch.nn.Module = load_causal_lm(checkpoint)
        self.model = model.to(self.device).eval()

    def account(
        self, rows: Sequence[PolicyExample], problems: Mapping[str, Problem], objective: Objective, where: str
    ) -> dict[str, float]:
        """What `kept_gradient` says of the rows under the objective.

        Raises:
            InputError: the rows have no log-probabilities of the policy that drew them, or at another temperature.
        """
        import numpy as np
        import torch

        from harness.modules.reference import length_batches, token_logps_of_sides
        from harness.objectives.surrogate import PolicyTokens, kept_gradient

        for row in rows:
            if len(row.token_logps) != len(row.token_ids) or row.temperature != 1:
                raise InputError(
                    f"{where}: a response to problem '{row.problem_id}' has no log-probabilities of its tokens at the "
                    f"temperature that they were drawn at ({row.temperature:g}), which trust regions are compared by."
                )
        sides = []
        for row in rows:
            prompt = self.template.encode(problems[row.problem_id], self.tokenizer)
            sides.append((np.array([*prompt, *row.token_ids], dtype=np.int32), len(prompt)))
        found: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for batch in length_batches(sides, BATCH_TOKENS):
                logps, _ = token_logps_of_sides(self.model, [sides[i] for i in batch], self.device)
                counts = [len(rows[i].token_ids) for i in batch]
                found.update(zip(batch, logps.double().cpu().split(counts), strict=True))
        engine = torch.tensor([value for row in rows for value in row.token_logps], dtype=torch.float64)
        numbers = torch.arange(len(rows))
        tokens = PolicyTokens(
            policy=torch.cat([found[i] for i in range(len(rows))]),
            advantages=torch.tensor([row.advantage for row in rows], dtype=torch.float64),
            rows=torch.repeat_interleave(numbers, torch.tensor([len(row.token_ids) for row in rows])),
            old=engine,
            engine=engine,
        )
        return kept_gradient(tokens, objective)


def rescored(rollouts: Sequence[Rollout], reward: Reward | None) -> Sequence[Rollout]:
    """The same rollouts with the rewards of another reward; verdicts stay."""
    if reward is None:
        return rollouts
    values: list[array[float]] = []
    rows = iter(rollouts)
    while group := list(itertools.islice(rows, GROUP)):
        pairs = [(rollout.problem, scored) for rollout in group for scored in rollout.responses]
        scores = iter(reward([p for p, _ in pairs], [s.response for _, s in pairs], [s.correct for _, s in pairs]))
        values += (array("d", [next(scores).value for _ in rollout.responses]) for rollout in group)

    def again(number: int) -> Rollout:
        rollout = rollouts[number]
        rewards = zip(rollout.responses, values[number], strict=True)
        return replace(rollout, responses=tuple(replace(scored, reward=value) for scored, value in rewards))

    return Lazy(again, range(len(rollouts)))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
