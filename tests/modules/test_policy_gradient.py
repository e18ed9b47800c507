"""Policy gradients on sampled rows: equal to supervised fine-tuning where they must be, and to themselves however the
rows are laid out."""

from __future__ import annotations

import json
import random
from pathlib import Path

import lightning as L
import pytest
import torch

from harness.callbacks import HFCheckpoint
from harness.datamodules import PolicyDataModule, SFTDataModule
from harness.errors import InputError
from harness.models.weights import fingerprint, load_causal_lm, model_version, named_weights
from harness.modules import PolicyGradientModule, SFTModule
from harness.modules.optimizer import OptimizerConfig
from harness.objectives import CISPO, DAPO, DPPO, GMPO, GRPO, GSPO, RFT, DrGRPO, Objective
from harness.store import write_rows
from harness.types import PolicyExample, SFTExample

NUM_PROBLEMS, NUM_RESPONSES = 6, 4


@pytest.fixture
def rows(tmp_path, tiny_model_dir, tiny_tokenizer):
    """Responses of mixed lengths to long prompts, with advantages and the engine's log-probabilities: a file."""
    rng = random.Random(0)
    model = load_causal_lm(tiny_model_dir)
    weights = model_version(model)
    examples = []
    for problem in range(NUM_PROBLEMS):
        prompt = f"add {rng.randint(100, 999)} and {rng.randint(100, 999)} with care ="
        prompt_ids = tiny_tokenizer(prompt)["input_ids"]
        for _ in range(NUM_RESPONSES):
            text = str(rng.randint(0, 99999)) + "." * rng.randint(0, 8)
            ids = (*tiny_tokenizer(text, add_special_tokens=False)["input_ids"], tiny_tokenizer.eos_token_id)
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt_ids, *ids]])).logits[0, len(prompt_ids) - 1 : -1]
            logps = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
            noisy = [value + rng.gauss(0, 0.05) for value in logps.tolist()]
            advantage = rng.choice([1.0, -0.5, 0.75])
            examples.append(
                PolicyExample(prompt, text, ids, advantage, tuple(noisy), problem_id=str(problem), weights=weights)
            )
    path = tmp_path / "policy.jsonl"
    write_rows(path, examples)
    return str(path)


def read_lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


class Gradients(L.Callback):
    """Keeps the gradients of every optimizer step and the loss of every batch."""

    def __init__(self):
        self.steps, self.losses = [], []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.steps.append(torch.cat([p.grad.flatten().clone() for p in module.parameters()]))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())


def fit(trainer, module, datamodule, **options):
    seen = Gradients()
    built = trainer(callbacks=[seen], **options)
    built.fit(module, datamodule)
    return seen, built


@pytest.fixture
def policy(tiny_model_dir, rows, trainer):
    """Fit an objective on the rows; the gradients, the losses, and the Trainer."""

    def run(objective, *, file=rows, share_prefix=False, lr=1e-2, data=None, **options):
        module = PolicyGradientModule(
            str(tiny_model_dir), objective, optimizer=OptimizerConfig(lr=lr), share_prefix=share_prefix
        )
        given = {"batch_size": 8, "max_length": 96, "group": "none"} | (data or {})
        return fit(trainer, module, PolicyDataModule([file], **given), **options)

    return run


@pytest.mark.parametrize("packing", [False, True])
def test_rejection_sampling_is_supervised_fine_tuning_bit_for_bit(
    tmp_path, tiny_model_dir, trainer, policy, rows, packing
):
    read = read_lines(rows)
    right = [row for row in read if row["advantage"] > 0]
    write_rows(tmp_path / "sft.jsonl", [SFTExample(row["prompt"], row["response"]) for row in right])
    kept = [PolicyExample(row["prompt"], row["response"], tuple(row["token_ids"]), 1.0) for row in right]
    write_rows(tmp_path / "raft.jsonl", kept)
    shape = {"batch_size": 4, "max_length": 96, "packing": packing}
    module = SFTModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2))
    expected, _ = fit(trainer, module, SFTDataModule([str(tmp_path / "sft.jsonl")], **shape), max_epochs=2)
    found, _ = policy(RFT(), file=str(tmp_path / "raft.jsonl"), data=shape, max_epochs=2)
    assert len(expected.steps) > 3
    assert found.losses == expected.losses
    assert all(torch.equal(one, other) for one, other in zip(found.steps, expected.steps, strict=True))


def test_at_the_iterations_start_grpo_has_the_gradient_of_reinforce(policy):
    reinforce, _ = policy(Objective(aggregation="sequence"), max_steps=1)
    grpo, built = policy(GRPO(), max_steps=1)
    assert (grpo.steps[0] - reinforce.steps[0]).abs().max() < 1e-7
    # Weights, tokens and positions of the pass over the rows agree with the step's.
    assert built.callback_metrics["train/ratio_max"] == pytest.approx(1, abs=1e-5)
    assert 0.02 < built.callback_metrics["train/engine_gap"] < 0.08
    current, _ = policy(GRPO(old_logps="current"), max_steps=1)
    assert (current.steps[0] - reinforce.steps[0]).abs().max() < 1e-7


OBJECTIVES = {
    "grpo": GRPO(),
    "dapo": DAPO(correction="token_truncate", correction_high=1.02),
    "dr_grpo": DrGRPO(constant_length=20),
    "gspo": GSPO(),
    "cispo": CISPO(),
    "gmpo": GMPO(clip_low=0.05, clip_high=0.05),
    "dppo": DPPO(),
    "kl in the reward": GRPO(kl="k1_reward", kl_coefficient=0.5, old_logps="engine"),  # engine and trainer differ
    "kl and entropy": GRPO(kl="k3_ratio", kl_coefficient=0.1, entropy="bonus", entropy_coefficient=0.01),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_does_not_depend_on_how_its_rows_are_laid_out(policy, name):
    """Accumulation, packing, shared prefixes and grouping change nothing but rounding."""
    objective = OBJECTIVES[name]
    whole, _ = policy(objective, max_epochs=2, data={"batch_size": 24})
    assert len(whole.steps) == 2
    layouts = {
        "accumulated": {"accumulate_grad_batches": 4, "data": {"batch_size": 6}},
        "packed": {"data": {"batch_size": 64, "packing": True, "max_length": 160}},
        "shared": {"share_prefix": True, "data": {"batch_size": 24}},
        "grouped": {"share_prefix": True, "accumulate_grad_batches": 2, "data": {"batch_size": 3, "group": "prompt"}},
    }
    for layout, options in layouts.items():
        other, _ = policy(objective, max_epochs=2, **options)
        for mine, theirs in zip(whole.steps, other.steps, strict=True):
            difference = (mine - theirs).abs().max() / mine.abs().max()
            assert difference < 2e-4, (layout, difference)
        first = (whole.steps[0] - other.steps[0]).abs().max() / whole.steps[0].abs().max()
        assert first < 1e-5, (layout, first)


def test_the_order_of_the_rows_in_the_file_changes_nothing_in_a_full_batch(policy, rows, tmp_path):
    lines = Path(rows).read_text().splitlines()
    random.Random(1).shuffle(lines)
    (tmp_path / "mixed.jsonl").write_text("\n".join(lines) + "\n")
    one, _ = policy(GRPO(), max_epochs=2, data={"batch_size": 24})
    other, _ = policy(GRPO(), max_epochs=2, data={"batch_size": 24}, file=str(tmp_path / "mixed.jsonl"))
    for mine, theirs in zip(one.steps, other.steps, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-3)


def test_the_losses_slope_is_its_finite_difference(policy, tiny_model_dir, rows, trainer):
    """Along the gradient of the whole model: catches a wrong shift, mask or weight."""
    seen, _ = policy(GSPO(clip_low=0.5, clip_high=0.5), max_steps=1, lr=0.0, data={"batch_size": 24})
    direction, size = seen.steps[0] / seen.steps[0].norm(), 1e-2
    losses = []
    for sign in (1, -1):
        module = PolicyGradientModule(str(tiny_model_dir), GSPO(clip_low=0.5, clip_high=0.5), share_prefix=False)
        built = trainer(max_steps=1)
        datamodule = PolicyDataModule([rows], batch_size=24, max_length=96, group="none")

        class Shift(L.Callback):
            def on_train_start(self, trainer, module, sign=sign):
                at = 0
                for parameter in module.parameters():
                    step = direction[at : at + parameter.numel()].view_as(parameter)
                    parameter.data.add_(step, alpha=sign * size)
                    at += parameter.numel()

        built.callbacks.append(Shift())
        found = Gradients()
        built.callbacks.append(found)
        built.fit(module, datamodule)
        losses.append(found.losses[0])
    assert (losses[0] - losses[1]) / (2 * size) == pytest.approx(seen.steps[0].norm().item(), rel=2e-2)


def test_a_run_resumed_in_the_middle_of_an_iteration_equals_an_unbroken_one(policy, tiny_model_dir, rows, tmp_path):
    """The old log-probabilities are those that the iteration began with, not those of the weights at the restart."""
    options = {"data": {"batch_size": 4}, "enable_checkpointing": True}
    _, built = policy(GRPO(entropy="adaptive", entropy_target=9.0), max_steps=6, **options)
    expected = fingerprint(named_weights(built.lightning_module.model))

    def build(**more):
        module = PolicyGradientModule(
            str(tiny_model_dir),
            GRPO(entropy="adaptive", entropy_target=9.0),
            optimizer=OptimizerConfig(lr=1e-2),
            share_prefix=False,
        )
        datamodule = PolicyDataModule([rows], batch_size=4, max_length=96, group="none")
        saver = HFCheckpoint(dirpath=tmp_path / "again" / "checkpoints", every_n_train_steps=3)
        torch.manual_seed(0)
        fresh = L.Trainer(
            accelerator="cpu", default_root_dir=tmp_path / "again", callbacks=[saver], logger=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **more,
        )  # fmt: skip
        return fresh, module, datamodule

    fresh, module, datamodule = build(max_steps=3)
    fresh.fit(module, datamodule)
    fresh, module, datamodule = build(max_steps=6)
    fresh.fit(module, datamodule, ckpt_path=tmp_path / "again" / "checkpoints" / "last.ckpt")
    assert fingerprint(named_weights(module.model)) == expected
    assert module.entropy_coefficient == built.lightning_module.entropy_coefficient > 0


def test_rows_of_other_weights_are_refused_when_their_log_probabilities_are_unknown(policy, rows, tmp_path):
    read = [line | {"weights": "0123456789abcdef"} for line in read_lines(rows)]
    (tmp_path / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in read))
    with pytest.raises(InputError, match="drawn by weights 0123456789abcdef, whose log-probabilities are not in"):
        policy(GRPO(), max_steps=1, file=str(tmp_path / "other.jsonl"))
    policy(GRPO(old_logps="engine"), max_steps=1, file=str(tmp_path / "other.jsonl"))


def test_rows_without_log_probabilities_are_refused_where_they_are_needed(policy, rows, tmp_path):
    read = read_lines(rows)
    del read[4]["token_logps"]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in read))
    with pytest.raises(InputError, match=r"bare.jsonl:5: the row has no `token_logps`"):
        policy(DPPO(), max_steps=1, file=str(tmp_path / "bare.jsonl"))
    policy(GRPO(), max_steps=1, file=str(tmp_path / "bare.jsonl"))
    del read[0]["advantage"]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in read))
    with pytest.raises(InputError, match=r"bare.jsonl:1: missing column 'advantage'"):
        policy(GRPO(), max_steps=1, file=str(tmp_path / "bare.jsonl"))


def test_a_temperature_is_that_of_the_policy_too(policy, rows, tmp_path):
    read = [line | {"temperature": 0.5} for line in read_lines(rows)]
    (tmp_path / "cool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in read))
    cool, built = policy(GRPO(), max_steps=1, file=str(tmp_path / "cool.jsonl"))
    assert built.callback_metrics["train/ratio_max"] == pytest.approx(1, abs=1e-5)
    plain, _ = policy(GRPO(), max_steps=1)
    assert (cool.steps[0] - plain.steps[0]).abs().max() > 1e-3


def test_a_divergence_in_the_reward_is_part_of_every_tokens_advantage(policy):
    """Here engine and reference are the same model but for noise of 0.05."""
    _, free = policy(Objective(old_logps="engine"), max_steps=1, data={"batch_size": 24})
    penalised = Objective(old_logps="engine", kl="k1_reward", kl_coefficient=0.5)
    _, held = policy(penalised, max_steps=1, data={"batch_size": 24})
    changed = held.callback_metrics["train/advantage"] - free.callback_metrics["train/advantage"]
    assert 1e-4 < abs(changed) < 0.1
    assert "train/kl" in held.callback_metrics


def test_the_entropy_bonus_raises_the_entropy(policy):
    _, plain = policy(GRPO(), max_steps=4, data={"batch_size": 24}, max_epochs=4)
    _, bonus = policy(
        GRPO(entropy="bonus", entropy_coefficient=1.0), max_steps=4, data={"batch_size": 24}, max_epochs=4
    )
    assert bonus.callback_metrics["train/entropy"] > plain.callback_metrics["train/entropy"] + 0.01


def test_other_data_is_refused(tiny_model_dir, sum_files, trainer):
    module = PolicyGradientModule(str(tiny_model_dir), GRPO())
    with pytest.raises(InputError, match="set `data: PolicyDataModule`"):
        trainer().fit(module, SFTDataModule([sum_files[0]]))
