"""Pairwise reward models with a real Trainer."""

from __future__ import annotations

import json
import math

import pytest
import torch

from harness.datamodules import PreferenceDataModule
from harness.modules import RewardModule
from harness.modules.optimizer import OptimizerConfig


def test_a_reward_model_starts_at_ln_2_and_learns_to_rank(tmp_path, trainer, tiny_model_dir, pair_files):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    module = RewardModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2))
    data = PreferenceDataModule([pair_files[0]], [pair_files[1]], batch_size=8, max_length=64)
    fit = trainer(max_epochs=15)
    fit.validate(module, data, verbose=False)
    assert fit.callback_metrics["val/loss"].item() == pytest.approx(math.log(2), abs=0.02)
    fit.fit(module, data)
    assert fit.callback_metrics["val/accuracy"] == 1.0
    assert fit.callback_metrics["val/loss"] < 0.2

    module.export(tmp_path / "rm")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "rm")
    right = 0
    for line in open(pair_files[1]):  # noqa: SIM115
        row = json.loads(line)
        texts = [row["prompt"] + row[side] + tokenizer.eos_token for side in ("chosen", "rejected")]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            good, bad = model(**{key: batch[key] for key in ("input_ids", "attention_mask")}).logits.flatten()
        right += bool(good > bad)
    assert right == 8


def test_accumulated_batches_of_weighted_pairs_give_the_gradients_of_one_batch(tmp_path, trainer, tiny_model_dir):
    from tests.modules.test_sft import Gradients

    rows = [{"prompt": f"{i}=", "chosen": "1" * (i + 1), "rejected": "2", "weight": 1 + i / 4} for i in range(8)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def gradients(batch_size, accumulate):
        found = Gradients()
        module = RewardModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=0.0), margin=0.5, centring=0.01)
        data = PreferenceDataModule([str(path)], batch_size=batch_size, max_length=64)
        trainer(accumulate_grad_batches=accumulate, callbacks=[found]).fit(module, data)
        return found.steps

    (one,), (many,) = gradients(8, 1), gradients(1, 8)
    for name in one:
        torch.testing.assert_close(many[name], one[name], atol=1e-6, rtol=0)


def test_a_reward_model_with_lora_exports_its_trained_head(tmp_path, trainer, tiny_model_dir, pair_files):
    from harness.models import load_reward_model, reward_head
    from harness.modules.base import LoRAConfig

    module = RewardModule(str(tiny_model_dir), lora=LoRAConfig(rank=2), optimizer=OptimizerConfig(lr=1e-2))
    trainer().fit(module, PreferenceDataModule([pair_files[0]], batch_size=8, max_length=64))
    module.export(tmp_path / "rm")
    plain = load_reward_model(tmp_path / "rm").eval()
    assert not torch.equal(reward_head(plain).weight, reward_head(load_reward_model(tiny_model_dir)).weight)
    ids = torch.randint(2, 80, (1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, module.model.eval()(input_ids=ids).logits)
