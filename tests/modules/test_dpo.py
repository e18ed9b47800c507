"""Preference optimisation with a real Trainer."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F

from harness.datamodules import PreferenceDataModule
from harness.errors import InputError
from harness.losses import PreferenceLossConfig
from harness.models import fingerprint, load_causal_lm, load_tokenizer, named_weights
from harness.modules import DPOModule
from harness.modules.base import LoRAConfig
from harness.modules.optimizer import OptimizerConfig
from tests.conftest import build_tiny_model
from tests.modules.test_sft import Gradients


@pytest.fixture(scope="module")
def other_model_dir(tmp_path_factory, tiny_tokenizer):
    folder = tmp_path_factory.mktemp("models") / "other"
    build_tiny_model(seed=7).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def test_loss_is_ln_2_at_the_start_and_falls_while_margins_grow(trainer, tiny_model_dir, pair_files):
    module = DPOModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=3e-3))
    data = PreferenceDataModule([pair_files[0]], [pair_files[1]], batch_size=8, max_length=64)
    fit = trainer(max_epochs=10)
    fit.validate(module, data, verbose=False)
    start = dict(fit.callback_metrics)
    assert start["val/loss"].item() == pytest.approx(math.log(2), abs=1e-6)
    assert start["val/rewards/margins"].item() == pytest.approx(0, abs=1e-5)
    fit.fit(module, data)
    assert fit.callback_metrics["val/loss"] < 0.5
    assert fit.callback_metrics["val/rewards/accuracies"] == 1.0
    assert fit.callback_metrics["train/rewards/chosen"] > fit.callback_metrics["train/rewards/rejected"]


def test_loss_and_gradient_equal_a_plain_computation_with_log_softmax(
    trainer, tiny_model_dir, other_model_dir, pair_files
):
    """One row at a time, no padding, full logits; a reference with other weights."""
    found = Gradients()
    module = DPOModule(
        str(tiny_model_dir),
        reference=str(other_model_dir),
        losses={"sigmoid": 1.0, "nll": 0.5},
        loss=PreferenceLossConfig(beta=0.3),
        optimizer=OptimizerConfig(lr=0.0),
    )
    fit = trainer(accumulate_grad_batches=3, callbacks=[found])
    fit.fit(module, PreferenceDataModule([pair_files[0]], batch_size=8, max_length=64))

    policy, reference = load_causal_lm(tiny_model_dir), load_causal_lm(other_model_dir)
    tokenizer = load_tokenizer(tiny_model_dir)

    def logp(model, prompt, response):
        start = len(tokenizer(prompt)["input_ids"])
        ids = torch.tensor([tokenizer(prompt + response)["input_ids"] + [tokenizer.eos_token_id]])
        table = model(input_ids=ids).logits.log_softmax(-1)[0, :-1]
        return table.gather(1, ids[0, 1:, None]).squeeze(1)[start - 1 :]

    losses = []
    for line in open(pair_files[0]):  # noqa: SIM115
        row = json.loads(line)
        chosen, rejected = (logp(policy, row["prompt"], row[side]) for side in ("chosen", "rejected"))
        with torch.no_grad():
            old = [logp(reference, row["prompt"], row[side]).sum() for side in ("chosen", "rejected")]
        delta = (chosen.sum() - old[0]) - (rejected.sum() - old[1])
        losses.append(-F.logsigmoid(0.3 * delta) - 0.5 * chosen.mean())
    expected = torch.stack(losses).mean()
    expected.backward()
    assert fit.callback_metrics["train/loss"].item() == pytest.approx(expected.item(), abs=1e-5)
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(found.steps[0][f"model.{name}"], parameter.grad, atol=1e-5, rtol=1e-4)


def test_the_reference_stays_frozen_and_out_of_checkpoints(tmp_path, trainer, tiny_model_dir, pair_files):
    module = DPOModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2))
    fit = trainer()
    fit.fit(module, PreferenceDataModule([pair_files[0]], batch_size=8, max_length=64))
    initial = fingerprint(named_weights(load_causal_lm(tiny_model_dir)))
    assert fingerprint(named_weights(module._reference_model[0])) == initial
    assert fingerprint(named_weights(module.model)) != initial
    fit.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=False)["state_dict"]
    assert saved.keys() == {f"model.{name}" for name in load_causal_lm(tiny_model_dir).state_dict()}


def test_with_lora_the_base_weights_are_the_reference(trainer, tiny_model_dir, pair_files):
    data = PreferenceDataModule([pair_files[0]], batch_size=8, max_length=64)
    lora = LoRAConfig(rank=4)
    module = DPOModule(str(tiny_model_dir), lora=lora, optimizer=OptimizerConfig(lr=1e-2))
    fit = trainer(max_epochs=3)
    fit.fit(module, data)
    assert not module._reference_model
    shared = fit.callback_metrics["train/loss"]
    torch.manual_seed(0)
    apart = DPOModule(str(tiny_model_dir), lora=lora, reference=str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2))
    fit = trainer(max_epochs=3)
    fit.fit(apart, PreferenceDataModule([pair_files[0]], batch_size=8, max_length=64))
    assert len(apart._reference_model) == 1
    assert shared < 0.6
    assert fit.callback_metrics["train/loss"].item() == pytest.approx(shared.item(), abs=1e-4)


def test_reference_free_losses_load_no_reference(tiny_model_dir):
    module = DPOModule(str(tiny_model_dir), losses={"simpo": 1.0, "nll": 1.0})
    module.configure_model()
    assert not module._reference_model


def test_unknown_losses_and_impossible_constants_are_refused(tiny_model_dir):
    with pytest.raises(InputError, match=r"unknown preference loss \['dpo'\]; known: sigmoid"):
        DPOModule(str(tiny_model_dir), losses={"dpo": 1.0})
    with pytest.raises(InputError, match=r"label_smoothing must be in \[0, 0.5\)"):
        DPOModule(str(tiny_model_dir), loss=PreferenceLossConfig(label_smoothing=0.5))
