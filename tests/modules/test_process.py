"""Pointwise process reward models with a real Trainer."""

from __future__ import annotations

import json
import math
import random

import pytest
import torch

from harness.datamodules import StepDataModule
from harness.errors import InputError
from harness.modules import ProcessRewardModule
from harness.modules.optimizer import OptimizerConfig
from harness.rewards import RewardModel
from harness.types import Problem, Response


def write_rows(path, num_rows, seed):
    """Sums in three steps of which each is right or wrong; the label says so of the step itself."""
    rng = random.Random(seed)
    with open(path, "w") as file:
        for _ in range(num_rows):
            steps, labels = [], []
            for _ in range(3):
                a, b, right = rng.randint(0, 2), rng.randint(0, 2), rng.random() < 0.5
                steps.append(f"{a}+{b}={a + b + (0 if right else rng.choice([1, 2]))}\n")
                labels.append(int(right))
            file.write(json.dumps({"prompt": "?", "steps": steps, "labels": labels}) + "\n")
    return str(path)


def test_a_process_reward_model_learns_which_steps_are_right(tmp_path, trainer, tiny_model_dir):
    train, held_out = write_rows(tmp_path / "train.jsonl", 500, 0), write_rows(tmp_path / "val.jsonl", 60, 1)
    module = ProcessRewardModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2))
    data = StepDataModule([train], [held_out], batch_size=32, max_length=64)
    fit = trainer(max_epochs=8, log_every_n_steps=16)
    fit.validate(module, data, verbose=False)
    assert fit.callback_metrics["val/loss"].item() == pytest.approx(math.log(2), abs=0.02)
    fit.fit(module, data)
    assert fit.callback_metrics["val/accuracy"] > 0.75

    # The exported directory scores steps as training did.
    module.export(tmp_path / "prm")
    reward = RewardModel(str(tmp_path / "prm"), "plain", per_step=True, aggregation="min", device="cpu")
    rows = [json.loads(line) for line in open(held_out)]  # noqa: SIM115
    reward.template = type(reward.template)("bare", user="{question}")
    scores = reward(
        [Problem("p", row["prompt"]) for row in rows],
        [Response(tuple(row["steps"]), "stop") for row in rows],
        [False] * len(rows),
    )
    agree = [
        (value > 0) == bool(label)
        for score, row in zip(scores, rows, strict=True)
        for value, label in zip(score.steps, row["labels"], strict=True)
    ]
    assert sum(agree) / len(agree) == pytest.approx(fit.callback_metrics["val/accuracy"].item(), abs=1e-6)


def batch_of(path, tokenizer, **options):
    data = StepDataModule([str(path)], tokenizer=tokenizer, **options)
    rows = data.rows([str(path)])
    return rows, rows.collate(range(len(rows.items)))


def test_a_label_stands_at_the_last_token_of_its_step_and_the_last_one_at_eos(tmp_path, tiny_tokenizer):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "1", "steps": ["ab\n", "c"], "labels": [0.25, 1], "weight": 0.5}) + "\n")
    rows, batch = batch_of(path, tiny_tokenizer)
    # <bos> 1 a b \n c <eos>
    assert batch["labels"].tolist() == [[-100, -100, -100, -100, 0.25, -100, 1]]
    assert batch["input_ids"][0, -1] == tiny_tokenizer.eos_token_id
    assert rows.items[0].denominator == 0.5 * 2
    _, every = batch_of(path, tiny_tokenizer, every_token=True)
    assert every["labels"].tolist() == [[-100, -100, 0.25, 0.25, 0.25, 1, 1]]
    _, cut = batch_of(path, tiny_tokenizer, max_length=6)
    assert cut["labels"].tolist() == [[-100, -100, -100, -100, 0.25, -100]]


def test_the_loss_is_the_weighted_mean_over_steps_of_binary_cross_entropy(tmp_path, trainer, tiny_model_dir):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": "1", "steps": ["a\n", "b"], "labels": [1, 0], "weight": 2},
        {"prompt": "1", "steps": ["longer\n"], "labels": [0.5]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    module = ProcessRewardModule(str(tiny_model_dir))
    fit = trainer()
    fit.validate(module, StepDataModule([str(path)], [str(path)], batch_size=2), verbose=False)
    model, tokenizer = module.model.eval(), module.tokenizer
    total = 0.0
    for row in rows:
        ids = tokenizer(row["prompt"] + "".join(row["steps"]))["input_ids"] + [tokenizer.eos_token_id]
        ends = [len(tokenizer(row["prompt"] + row["steps"][0])["input_ids"]) - 1, len(ids) - 1][-len(row["steps"]) :]
        with torch.no_grad():
            hidden = model.model(torch.tensor([ids])).last_hidden_state[0, ends]
        p = torch.sigmoid(hidden @ model.score.weight[0])
        y = torch.tensor(row["labels"], dtype=torch.float32)
        total += row.get("weight", 1) * -(y * p.log() + (1 - y) * (1 - p).log()).sum().item()
    assert fit.callback_metrics["val/loss"].item() == pytest.approx(total / (2 * 2 + 1), abs=1e-5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "1", "steps": ["a"], "labels": [1, 0]}, "one number for each of the 1 steps"),
        ({"prompt": "1", "steps": ["a"], "labels": [2]}, "from 0 to 1, found 2"),
        ({"prompt": "1", "steps": "a", "labels": [1]}, "must be a list of texts"),
        ({"steps": ["a"], "labels": [1]}, "missing column 'prompt'"),
    ],
)
def test_a_malformed_row_is_named_with_its_line(tmp_path, tiny_tokenizer, row, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=message) as error:
        batch_of(path, tiny_tokenizer)
    assert f"{path}:1" in str(error.value)
