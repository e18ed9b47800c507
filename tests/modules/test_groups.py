"""Pairs of one prompt together, each response computed once: the same training as pair by pair."""

from __future__ import annotations

import json

import pytest
import torch

from harness.datamodules import PreferenceDataModule
from harness.modules import DPOModule, RewardModule
from harness.modules.optimizer import OptimizerConfig
from tests.modules.test_sft import Gradients

NUM_PAIRS = 9 + 4 + 6


@pytest.fixture
def grouped_file(tmp_path):
    """Three problems with 3 x 3, 1 x 4 and 2 x 3 pairs, their lines mixed, each weighing 1 in all."""
    rows = []
    for problem, (right, wrong) in enumerate([(3, 3), (1, 4), (2, 3)]):
        prompt = "what is the value of " + "1+" * (problem + 3) + "1?"
        for r in range(right):
            for w in range(wrong):
                sides = {"chosen": "4" + "." * r, "rejected": "5" + ";" * (w + problem)}
                rows.append({"prompt": prompt, **sides, "weight": 1 / (right * wrong)})
    assert len(rows) == NUM_PAIRS
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in sorted(rows, key=lambda row: row["rejected"])))
    return str(path)


def reward(checkpoint, **options):
    return RewardModule(checkpoint, optimizer=OptimizerConfig(lr=1e-2), centring=0.01, **options)


def hybrid(checkpoint, **options):
    return reward(checkpoint, likelihood="sum", **options)


def dpo(checkpoint, **options):
    losses = {"sigmoid": 1.0, "nll": 0.3}
    return DPOModule(checkpoint, optimizer=OptimizerConfig(lr=1e-2), losses=losses, **options)


def frozen(checkpoint, **options):
    return dpo(checkpoint, reference="frozen", **options)


@pytest.fixture
def run(monkeypatch, tmp_path, trainer, tiny_model_dir, grouped_file):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def fit(build, accumulate=1, epochs=2, attention=None, share_prefix=True, **data):
        found = Gradients()
        module = build(str(tiny_model_dir), attn_implementation=attention, share_prefix=share_prefix)
        loop = trainer(max_epochs=epochs, accumulate_grad_batches=accumulate, callbacks=[found])
        loop.fit(module, PreferenceDataModule([grouped_file], [grouped_file], max_length=96, **data))
        return found.steps, {name: value.item() for name, value in loop.callback_metrics.items()}

    return fit


def same(one, two, num_steps):
    assert len(one[0]) == len(two[0]) == num_steps
    for expected, step in zip(one[0], two[0], strict=True):
        for name, gradient in expected.items():
            torch.testing.assert_close(step[name], gradient, atol=2e-6, rtol=1e-4)
    # What the first batch of another size cannot change.
    for name in one[1].keys() - {"train/num_tokens", "train/tokens_per_second"}:
        assert two[1][name] == pytest.approx(one[1][name], abs=1e-4), name


@pytest.mark.parametrize("build", [reward, hybrid, dpo, frozen])
def test_groups_train_as_their_pairs_do(run, build):
    """One step an epoch over all pairs, first pair by pair and every side computed apart."""
    plain = run(build, batch_size=1, accumulate=NUM_PAIRS, val_batch_size=1, share_prefix=False)
    same(plain, run(build, batch_size=3, group="prompt"), 2)
    same(plain, run(build, batch_size=3, group="prompt", share_prefix=False), 2)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_accumulated_groups_and_groups_cut_in_pieces_train_as_one_batch(run, attention):
    options = {"group": "prompt", "attention": attention, "epochs": 1}
    whole = run(hybrid, batch_size=3, **options)
    same(whole, run(hybrid, batch_size=1, accumulate=3, **options), 1)
    # The sides have about 35 tokens: tiles of 2 x 2 make 4 + 2 + 2 pieces of the three groups.
    same(whole, run(hybrid, batch_size=8, group_tokens=160, **options), 1)
