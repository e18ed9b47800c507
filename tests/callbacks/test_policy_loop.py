"""Policy gradients in the loop of rollouts: fresh rows, old log-probabilities, refilling, resuming, stopping."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch import seed_everything

from harness.callbacks import HFCheckpoint, RolloutCallback, StopOnDivergence
from harness.callbacks.rollout import _check_objective
from harness.commands.replay import replay
from harness.datamodules import PolicyDataModule, PreferenceDataModule
from harness.engines import EngineConfig
from harness.errors import InputError
from harness.models.weights import fingerprint, named_weights
from harness.modules import DPOModule, PolicyGradientModule
from harness.modules.optimizer import OptimizerConfig
from harness.objectives import DPPO, GRPO, OPO, RFT, MaxRL, Objective
from harness.rollouts.iteration import Iteration
from harness.selection import FixedSampling, OutcomePairs, PolicyRows
from harness.store import read_rows
from harness.types import (
    PolicyExample,
    Problem,
    Response,
    Rollout,
    RolloutConfig,
    SamplingConfig,
    Score,
    ScoredResponse,
)


@dataclass(frozen=True)
class OddLength:
    """1 for a response of an odd number of characters: something that a random model sometimes does."""

    def __call__(self, problems, responses, correct):
        return [Score(float(len(response.text) % 2)) for response in responses]


class FirstSteps(L.Callback):
    """The logged numbers of the first step of every epoch."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == 0:
            self.seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def loop(folder, data, module, datamodule, *extra, max_epochs=2, resume=False, select=None, n=4, **options):
    seed_everything(0)
    rollout = RolloutCallback(
        problems=[str(data / "train.jsonl")],
        scheduler=FixedSampling(SamplingConfig(n=n, max_tokens=6), 0.5),
        template="arithmetic",
        reward=OddLength(),
        select=select,
        engine=EngineConfig(kind="transformers", dtype="float32"),
        **options,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        max_epochs=max_epochs,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        logger=False,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*extra, HFCheckpoint(dirpath=Path(folder) / "checkpoints"), rollout],
    )
    last = Path(folder) / "checkpoints/last.ckpt"
    trainer.fit(module, datamodule, ckpt_path=last if resume else None)
    return trainer


def policy(data, objective, num_steps=4):
    module = PolicyGradientModule(
        str(data / "base"), objective, attn_implementation="eager", optimizer=OptimizerConfig(lr=3e-3)
    )
    return module, PolicyDataModule(template="arithmetic", batch_size=3, max_length=64, batches_per_epoch=num_steps)


def test_each_iteration_begins_where_its_rows_were_drawn(tmp_path, data):
    """Weights, tokens and temperature of engine and trainer agree: the first ratios are 1."""
    first = FirstSteps()
    loop(tmp_path, data, *policy(data, GRPO(replay_iterations=1)), first)
    assert first.seen[0]["train/ratio_max"] == pytest.approx(1, abs=1e-4)
    assert all(seen["train/engine_gap_max"] < 1e-3 for seen in first.seen)
    rows = read_rows(tmp_path / "rollouts/iter_002.train.jsonl", PolicyExample)
    assert len(rows) == 48
    assert all(len(row.token_logps) == len(row.token_ids) > 0 for row in rows)
    manifest = json.loads((tmp_path / "rollouts/iter_002.json").read_text())
    assert {row.weights for row in rows} == {manifest["weights"]}
    assert 0 <= manifest["monitors"]["zero_spread_share"] < 1
    assert len(list((tmp_path / "old_logps").iterdir())) == 2


def test_a_run_resumed_between_iterations_equals_an_unbroken_one(tmp_path, data):
    module, datamodule = policy(data, GRPO())
    loop(tmp_path / "whole", data, module, datamodule)
    loop(tmp_path / "parts", data, *policy(data, GRPO()), max_epochs=1)
    again, datamodule = policy(data, GRPO())
    loop(tmp_path / "parts", data, again, datamodule, resume=True)
    assert fingerprint(named_weights(again.model)) == fingerprint(named_weights(module.model))
    for name in ("iter_001.train.jsonl", "iter_002.train.jsonl"):
        assert (tmp_path / "whole/rollouts" / name).read_bytes() == (tmp_path / "parts/rollouts" / name).read_bytes()


def test_another_credit_is_replayed_from_the_rollouts(tmp_path, data, capsys):
    loop(tmp_path, data, *policy(data, GRPO()), max_epochs=1)
    assert replay(tmp_path, select=PolicyRows(MaxRL(keep="mixed")), output=tmp_path / "maxrl.json") == 0
    (row,) = json.loads((tmp_path / "maxrl.json").read_text())
    assert row["also_in_run"] == 1.0
    assert 0 < row["rows"] < 48
    assert row["counts"]["advantage_std"] > 0
    assert "zero_spread_share" in capsys.readouterr().out


def test_another_trust_region_is_replayed_at_the_policy_that_the_run_has_come_to(tmp_path, data, capsys):
    loop(tmp_path, data, *policy(data, GRPO(), num_steps=12), max_epochs=1)

    def at(model, objective):
        options = {"policy": str(model), "template": "arithmetic", "output": tmp_path / "moved.json"}
        assert replay(tmp_path, select=PolicyRows(objective), **options) == 0
        (row,) = json.loads((tmp_path / "moved.json").read_text())
        return row

    start = at(data / "base", GRPO())
    # Where the rows were drawn every ratio is 1, and a trust region leaves the whole gradient.
    assert start["ratio_max"] == pytest.approx(1, abs=1e-4)
    assert (start["kept_share"], start["gradient_share"]) == (1.0, pytest.approx(1, abs=1e-4))
    clipped, wide, free = (
        at(tmp_path / "hf", GRPO(**bounds))
        for bounds in ({"clip_low": 0.02, "clip_high": 0.02}, {}, {"trust_region": "none"})
    )
    assert clipped["ratio_max"] == free["ratio_max"] > 1.02
    assert clipped["kl_old"] > start["kl_old"]
    assert 0 < clipped["kept_share"] < wide["kept_share"] <= free["kept_share"] == 1.0
    assert "gradient_share" in capsys.readouterr().out
    with pytest.raises(InputError, match="name an objective too"):
        replay(tmp_path, policy=str(data / "base"))


def test_a_run_that_diverges_stops_before_its_checkpoint_and_goes_on_from_the_last_good_one(tmp_path, data):
    """Unbounded steps on wrong responses: -A log p has no floor."""
    loop(tmp_path, data, *policy(data, GRPO()), max_epochs=1)
    good = (tmp_path / "checkpoints/last.ckpt").read_bytes()
    guard = StopOnDivergence(least={"train/logp/wrong": -8.0}, patience=1)
    with pytest.raises(InputError, match=r"train/logp/wrong is -.*, below -8, 2 times in a row, so the run was"):
        loop(tmp_path, data, *policy(data, Objective(credit="nsr"), num_steps=100), guard, resume=True)
    assert (tmp_path / "checkpoints/last.ckpt").read_bytes() == good
    # The iteration's rows are there already; with a trust region the same ones stay within the bound.
    manifest = (tmp_path / "rollouts/iter_002.json").read_bytes()
    bounded = Objective(credit="nsr", ratio="token", trust_region="clip")
    trainer = loop(tmp_path, data, *policy(data, bounded), guard, resume=True)
    assert (tmp_path / "rollouts/iter_002.json").read_bytes() == manifest
    with pytest.raises(InputError, match="select"):
        loop(tmp_path, data, *policy(data, Objective(credit="mean")), resume=True)
    assert trainer.current_epoch == 2


def test_a_bound_on_what_is_not_logged_is_refused(tmp_path, data):
    with pytest.raises(InputError, match=r"watches .*train/nothing.*, which this run does not log"):
        loop(tmp_path, data, *policy(data, GRPO()), StopOnDivergence(most={"train/nothing": 1.0}), max_epochs=1)
    with pytest.raises(InputError, match="no bounds"):
        StopOnDivergence()


def test_preferences_of_an_iteration_are_measured_against_its_own_policy(tmp_path, data):
    def build():
        module = DPOModule(
            str(data / "base"), reference="iteration", reference_cache=str(tmp_path / "cache"),
            optimizer=OptimizerConfig(lr=3e-3), attn_implementation="eager",
        )  # fmt: skip
        return module, PreferenceDataModule([], template="arithmetic", batch_size=4, max_length=64, batches_per_epoch=3)

    first = FirstSteps()
    module, datamodule = build()
    loop(tmp_path / "whole", data, module, datamodule, first, select=OutcomePairs(max_per_problem=2))
    # At an iteration's first step the policy is its own reference.
    assert [seen["train/rewards/margins"] for seen in first.seen] == pytest.approx([0, 0], abs=1e-4)
    loop(tmp_path / "parts", data, *build(), select=OutcomePairs(max_per_problem=2), max_epochs=1)
    again, datamodule = build()
    loop(tmp_path / "parts", data, again, datamodule, select=OutcomePairs(max_per_problem=2), resume=True)
    assert fingerprint(named_weights(again.model)) == fingerprint(named_weights(module.model))


def test_rows_of_an_earlier_policy_need_the_engines_log_probabilities():
    for objective in (GRPO(), Objective(kl="k1_reward", kl_coefficient=0.1), MaxRL(correction="token_truncate")):
        with pytest.raises(InputError, match=r"old_logps is recomputed, .* with staleness 1 those are gone"):
            _check_objective(objective)
    for objective in (OPO(), GRPO(old_logps="current")):
        with pytest.warns(UserWarning, match="no ratio to the policy that drew the rows"):
            _check_objective(objective)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for objective in (GRPO(old_logps="engine"), DPPO(), RFT()):
            _check_objective(objective)


def test_problems_that_teach_nothing_are_replaced_by_others():
    problems = [Problem(str(i), f"{i}") for i in range(100)]
    config = RolloutConfig(reward_threshold=0.5)
    plan = Iteration(problems, FixedSampling(SamplingConfig(n=2)), PolicyRows(GRPO(keep="mixed", refill=3)))

    def sampled(problem):
        rewards = (1.0, 0.0) if int(problem.id) % 4 == 0 else (0.0, 0.0)
        return Rollout(problem, tuple(ScoredResponse(answer_of(), reward=reward) for reward in rewards))

    first = problems[:12]
    rollouts = [sampled(problem) for problem in first]
    rounds = []
    for further in plan._further_problems(1, first, lambda: rollouts, config):
        rounds.append(further)
        rollouts.extend(map(sampled, further))
    ids = [rollout.problem.id for rollout in rollouts]
    assert len(rounds) == 3
    assert len(set(ids)) == len(ids)
    assert all(len(further) <= 12 for further in rounds)
    enough = [sampled(problem) for problem in problems[::4]][:12]
    assert not list(plan._further_problems(1, [rollout.problem for rollout in enough], lambda: enough, config))


def test_refilled_iterations_teach_as_many_problems_as_they_begin_with(tmp_path, data):
    objective = GRPO(keep="mixed", refill=5)
    loop(tmp_path, data, *policy(data, objective), n=2, max_epochs=2, problems_per_iteration=4)
    num_drawn = 0
    for number in (1, 2):
        rows = read_rows(tmp_path / f"rollouts/iter_{number:03d}.train.jsonl", PolicyExample)
        drawn = read_rows(tmp_path / f"rollouts/iter_{number:03d}.jsonl", Rollout)
        manifest = json.loads((tmp_path / f"rollouts/iter_{number:03d}.json").read_text())
        assert len({row.problem_id for row in rows}) == 4
        assert len(rows) == 8
        num_drawn += len(drawn)
        assert manifest["monitors"]["num_responses"] == 2 * len(drawn)
        assert manifest["tokens"]["sample"] == sum(
            len(scored.response.token_ids) for rollout in drawn for scored in rollout.responses
        )
    assert num_drawn > 8  # what was drawn in vain is counted


def answer_of():
    return Response(("x",), "stop", (3,), -0.5, token_logps=(-0.5,))
