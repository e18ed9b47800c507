"""Learning from single responses: the loss by hand, against a plain computation, and what a fit does."""

from __future__ import annotations

import json

import pytest
import torch

from harness.datamodules import PreferenceDataModule, UnpairedDataModule
from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.models.losses import kto_loss
from harness.models.weights import load_causal_lm
from harness.modules import KTOModule
from harness.modules.optimizer import OptimizerConfig
from tests.conftest import build_tiny_model
from tests.modules.test_sft import Gradients

ROWS = [
    {"prompt": f"{i}+1=", "completion": f"{i + 1 if i % 2 else 7};" + "." * (i % 3), "label": i % 2 == 1}
    for i in range(6)
]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "unpaired.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def test_the_loss_has_the_values_that_the_papers_formula_has_by_hand():
    ratios = torch.tensor([0.5, -0.2], requires_grad=True)
    point = torch.tensor(0.1, requires_grad=True)
    losses = kto_loss(ratios, torch.tensor([True, False]), point.detach(), 0.5, 1.0, 1.5)
    # 1 - sigmoid(0.5 (0.5 - 0.1)), 1.5 (1 - sigmoid(0.5 (0.1 + 0.2)))
    torch.testing.assert_close(losses.detach(), torch.tensor([0.4501660, 0.6938552]), atol=1e-6, rtol=0)
    losses.sum().backward()
    # -beta s (1 - s), 1.5 beta s (1 - s)
    torch.testing.assert_close(ratios.grad, torch.tensor([-0.1237583, 0.1864488]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("reference", ["precomputed", "frozen"])
def test_loss_and_gradient_equal_a_plain_computation(
    trainer, tmp_path, tiny_model_dir, tiny_tokenizer, rows, reference
):
    """One response at a time; the divergence from the responses of the next rows."""
    other = tmp_path / "other"
    build_tiny_model(seed=7).save_pretrained(other)
    tiny_tokenizer.save_pretrained(other)
    found = Gradients()
    module = KTOModule(
        str(other),
        reference=str(tiny_model_dir) if reference == "precomputed" else "frozen",
        beta=0.3,
        undesirable_weight=1.5,
        optimizer=OptimizerConfig(lr=0.0),
    )
    fit = trainer(callbacks=[found])
    fit.fit(module, UnpairedDataModule([rows], batch_size=8, max_length=64))

    policy = load_causal_lm(other)
    against = load_causal_lm(tiny_model_dir if reference == "precomputed" else other)
    tokenizer = load_tokenizer(other)

    def log_ratio(prompt, response):
        start = len(tokenizer(prompt)["input_ids"])
        ids = torch.tensor([tokenizer(prompt + response)["input_ids"] + [tokenizer.eos_token_id]])
        tables = [model(input_ids=ids).logits.log_softmax(-1)[0, :-1] for model in (policy, against)]
        new, old = (table.gather(1, ids[0, 1:, None])[start - 1 :].sum() for table in tables)
        return new - old.detach()

    unrelated = [log_ratio(ROWS[i]["prompt"], ROWS[(i + 1) % 6]["completion"]).detach() for i in range(6)]
    point = torch.stack(unrelated).mean().clamp(min=0)
    losses = []
    for row in ROWS:
        ratio = log_ratio(row["prompt"], row["completion"])
        gain = 0.3 * (ratio - point if row["label"] else point - ratio)
        losses.append((1.0 if row["label"] else 1.5) * (1 - torch.sigmoid(gain)))
    expected = torch.stack(losses).mean()
    expected.backward()
    assert fit.callback_metrics["train/loss"].item() == pytest.approx(expected.item(), abs=1e-5)
    assert fit.callback_metrics["train/kl"].item() == pytest.approx(point.item(), abs=1e-5)
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(found.steps[0][f"model.{name}"], parameter.grad, atol=1e-5, rtol=1e-4)


def test_good_responses_become_likelier_and_bad_ones_less(trainer, tiny_model_dir, rows):
    module = KTOModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=3e-3))
    fit = trainer(max_epochs=15)
    fit.fit(module, UnpairedDataModule([rows], [rows], batch_size=6, max_length=64))
    metrics = fit.callback_metrics
    assert metrics["val/accuracy"] == 1.0
    assert metrics["val/loss"] < 0.4
    assert metrics["train/rewards/desirable"] > metrics["train/kl"] * 0.1 > metrics["train/rewards/undesirable"]


def test_responses_of_one_prompt_are_measured_against_those_of_another(tmp_path, tiny_tokenizer):
    path = tmp_path / "a.jsonl"
    given = [("1=", "1"), ("1=", "2"), ("2=", "3"), ("1=", "")]
    path.write_text("".join(json.dumps({"prompt": p, "completion": c, "label": True}) + "\n" for p, c in given))
    data = UnpairedDataModule([str(path)], tokenizer=tiny_tokenizer)
    (pairs, _), counts = data.read([str(path)])
    texts = [[tiny_tokenizer.decode(side) for side in pair.sides] for pair in pairs]
    assert texts == [
        ["<bos>1=1<eos>", "<bos>1=3<eos>"],
        ["<bos>1=2<eos>", "<bos>1=3<eos>"],
        ["<bos>2=3<eos>", "<bos>2=1<eos>"],
    ]
    assert counts.dropped["empty response"] == 1
    [batch] = data.train_dataloader()
    assert batch["desirable"].tolist() == [True] * 3


def test_what_cannot_be_learnt_from_is_refused(trainer, tmp_path, tiny_model_dir, tiny_tokenizer, pair_files):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "1=", "completion": "2", "label": True}) + "\n")
    with pytest.raises(InputError, match=r"a\.jsonl:1: all rows have this prompt"):
        UnpairedDataModule([str(path)], tokenizer=tiny_tokenizer).train_dataloader()
    with pytest.raises(InputError, match="beta must be a number above 0, found 0"):
        KTOModule(str(tiny_model_dir), beta=0)
    with pytest.raises(InputError, match="the batches have no labels; KTOModule needs UnpairedDataModule"):
        trainer().fit(KTOModule(str(tiny_model_dir)), PreferenceDataModule([pair_files[0]], max_length=64))
