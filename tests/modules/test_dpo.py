"""Preference optimisation with a real Trainer."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F

from harness.datamodules import PreferenceDataModule
from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.models.losses import PreferenceLossConfig
from harness.models.weights import fingerprint, load_causal_lm, named_weights
from harness.modules import DPOModule
from harness.modules.base import LoRAConfig
from harness.modules.optimizer import OptimizerConfig
from tests.conftest import build_tiny_model
from tests.modules.test_sft import Gradients


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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


def fitted(trainer, checkpoint, files, trainer_options=None, **options):
    """The module after a fit, its logged metrics and its gradients."""
    found = Gradients()
    torch.manual_seed(0)
    options = {"optimizer": OptimizerConfig(lr=1e-2)} | options
    module = DPOModule(str(checkpoint), **options)
    fit = trainer(callbacks=[found], **(trainer_options or {}))
    fit.fit(module, PreferenceDataModule([files[0]], [files[1]], batch_size=8, max_length=64))
    return module, dict(fit.callback_metrics), found.steps


def same_run(one, two):
    """Losses and gradients of every step to 1e-5."""
    for name in ("train/loss", "val/loss", "val/rewards/margins", "val/kl"):
        assert two[1][name].item() == pytest.approx(one[1][name].item(), abs=1e-5), name
    for expected, step in zip(one[2], two[2], strict=True):
        for name, gradient in expected.items():
            torch.testing.assert_close(step[name], gradient, atol=1e-5, rtol=0)


def test_precomputed_log_probabilities_train_as_a_frozen_copy_does(trainer, tiny_model_dir, pair_files):
    frozen = fitted(trainer, tiny_model_dir, pair_files, reference="frozen")
    precomputed = fitted(trainer, tiny_model_dir, pair_files)
    assert len(frozen[0]._reference_model) == 1
    assert not precomputed[0]._reference_model
    same_run(frozen, precomputed)


def test_the_frozen_reference_stays_as_it_was_and_out_of_checkpoints(tmp_path, trainer, tiny_model_dir, pair_files):
    module, _, _ = fitted(trainer, tiny_model_dir, pair_files, reference="frozen")
    initial = fingerprint(named_weights(load_causal_lm(tiny_model_dir)))
    assert fingerprint(named_weights(module._reference_model[0])) == initial
    assert fingerprint(named_weights(module.model)) != initial
    module.trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=False)["state_dict"]
    assert saved.keys() == {f"model.{name}" for name in load_causal_lm(tiny_model_dir).state_dict()}


@pytest.mark.parametrize("reference", ["precomputed", "frozen"])
def test_with_lora_the_base_weights_are_the_reference(trainer, tiny_model_dir, pair_files, reference):
    lora = LoRAConfig(rank=4)
    module, shared, steps = fitted(trainer, tiny_model_dir, pair_files, lora=lora, reference=reference)
    assert not module._reference_model
    # The same weights as a checkpoint of their own.
    same_run(
        (module, shared, steps), fitted(trainer, tiny_model_dir, pair_files, lora=lora, reference=str(tiny_model_dir))
    )


def test_known_log_probabilities_are_reused_and_only_new_ones_computed(
    tmp_path, trainer, tiny_model_dir, other_model_dir, pair_files, monkeypatch
):
    from harness.modules import dpo

    scored = []
    compute = dpo.logps_of_sides
    monkeypatch.setattr(dpo, "logps_of_sides", lambda m, sides, d: scored.append(len(sides)) or compute(m, sides, d))
    options = {"reference_cache": str(tmp_path / "mine"), "optimizer": OptimizerConfig(lr=0.0)}
    lines = open(pair_files[0]).read().splitlines()  # noqa: SIM115
    half = tmp_path / "half.jsonl"
    half.write_text("\n".join(lines[:10]) + "\n")
    fitted(trainer, tiny_model_dir, (str(half), pair_files[1]), **options)
    num_half = sum(scored)
    sides = {(row["prompt"], row[side]) for row in map(json.loads, lines) for side in ("chosen", "rejected")}
    sides |= {
        (row["prompt"], row[side])
        for row in map(json.loads, open(pair_files[1]))  # noqa: SIM115
        for side in ("chosen", "rejected")
    }
    fitted(trainer, tiny_model_dir, pair_files, **options)
    assert 0 < num_half < sum(scored) == len(sides), "each distinct response is scored once"
    fitted(trainer, tiny_model_dir, pair_files, **options)
    assert sum(scored) == len(sides)
    fitted(trainer, tiny_model_dir, pair_files, **options, reference=str(other_model_dir))
    assert sum(scored) == 2 * len(sides), "other weights have values of their own"


def test_precomputing_resumes_after_a_crash(tmp_path, trainer, tiny_model_dir, pair_files, monkeypatch):
    from harness.modules import dpo

    monkeypatch.setattr(dpo, "BATCHES_PER_FILE", 1)
    scored = []
    compute = dpo.logps_of_sides

    def crashing(model, sides, device):
        if len(scored) == 2:
            raise MemoryError
        scored.append(len(sides))
        return compute(model, sides, device)

    monkeypatch.setattr(dpo, "logps_of_sides", crashing)
    options = {"reference_cache": str(tmp_path), "reference_batch_tokens": 40, "optimizer": OptimizerConfig(lr=0.0)}
    with pytest.raises(MemoryError):
        fitted(trainer, tiny_model_dir, pair_files, **options)
    done = sum(scored)
    counted = []
    monkeypatch.setattr(dpo, "logps_of_sides", lambda m, sides, d: counted.append(len(sides)) or compute(m, sides, d))
    resumed = fitted(trainer, tiny_model_dir, pair_files, **options)
    same_run(
        fitted(trainer, tiny_model_dir, pair_files, reference="frozen", optimizer=OptimizerConfig(lr=0.0)), resumed
    )
    counted_at_once = []
    monkeypatch.setattr(
        dpo, "logps_of_sides", lambda m, sides, d: counted_at_once.append(len(sides)) or compute(m, sides, d)
    )
    fitted(trainer, tiny_model_dir, pair_files, **options | {"reference_cache": str(tmp_path / "new")})
    assert done + sum(counted) == sum(counted_at_once)


def test_a_damaged_cache_file_is_named(tmp_path, trainer, tiny_model_dir, pair_files):
    options = {"reference_cache": str(tmp_path), "optimizer": OptimizerConfig(lr=0.0)}
    fitted(trainer, tiny_model_dir, pair_files, **options)
    file = next(tmp_path.glob("*/*.bin"))
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(InputError, match=rf"{file.name}: the file is damaged"):
        fitted(trainer, tiny_model_dir, pair_files, **options)


def test_shared_prefixes_train_as_plain_sequences_do(tmp_path, trainer, tiny_model_dir):
    rows = [
        {"prompt": "a long question? " + "+".join("123"[: i % 3 + 1]), "chosen": f"{i}!", "rejected": f"{i}?" + "." * i}
        for i in range(12)
    ]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = (str(path), str(path))
    for reference in ("frozen", "precomputed"):
        options = {"losses": {"sigmoid": 1.0, "nll": 0.5}, "reference": reference}
        same_run(*(fitted(trainer, tiny_model_dir, files, share_prefix=share, **options) for share in (False, True)))


def test_entropy_and_kl_equal_those_of_the_full_distributions(trainer, tiny_model_dir, other_model_dir, pair_files):
    _, metrics, _ = fitted(
        trainer, tiny_model_dir, pair_files, reference=str(other_model_dir), optimizer=OptimizerConfig(lr=0.0)
    )
    policy, reference = load_causal_lm(tiny_model_dir), load_causal_lm(other_model_dir)
    tokenizer = load_tokenizer(tiny_model_dir)
    entropies, drifts = [], []
    for row in map(json.loads, open(pair_files[1])):  # noqa: SIM115
        for side in ("chosen", "rejected"):
            start = len(tokenizer(row["prompt"])["input_ids"])
            ids = torch.tensor([tokenizer(row["prompt"] + row[side])["input_ids"] + [tokenizer.eos_token_id]])
            with torch.no_grad():
                ours, theirs = (m(input_ids=ids).logits.log_softmax(-1)[0, start - 1 : -1] for m in (policy, reference))
            entropies.append(torch.distributions.Categorical(logits=ours).entropy().mean())
            drifts.append((theirs - ours).gather(1, ids[0, start:, None]).mean())
    assert metrics["val/entropy"].item() == pytest.approx(torch.stack(entropies).mean().item(), abs=1e-5)
    assert metrics["val/kl"].item() == pytest.approx(torch.stack(drifts).mean().item(), abs=1e-5)


def test_changing_accumulation_is_refused(trainer, tiny_model_dir, pair_files):
    from lightning.pytorch.callbacks import GradientAccumulationScheduler

    with pytest.raises(InputError, match="GradientAccumulationScheduler is not supported"):
        trainer(callbacks=[GradientAccumulationScheduler({0: 2})]).fit(
            DPOModule(str(tiny_model_dir)), PreferenceDataModule([pair_files[0]], batch_size=8, max_length=64)
        )


def test_reference_free_losses_load_no_reference(tiny_model_dir):
    module = DPOModule(str(tiny_model_dir), losses={"simpo": 1.0, "nll": 1.0})
    module.configure_model()
    assert not module._reference_model


def test_unknown_losses_and_impossible_constants_are_refused(tiny_model_dir):
    with pytest.raises(InputError, match=r"unknown preference loss 'dpo'; known: sigmoid"):
        DPOModule(str(tiny_model_dir), losses={"dpo": 1.0})
    with pytest.raises(InputError, match=r"label_smoothing must be in \[0, 0.5\)"):
        DPOModule(str(tiny_model_dir), loss=PreferenceLossConfig(label_smoothing=0.5))
