"""Fine-tuning with a real Trainer: exact normalisation, packing, resuming, export."""

from __future__ import annotations

import copy
import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import lightning as L
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from harness.callbacks.checkpoint import HFCheckpoint
from harness.commands.merge import merge
from harness.datamodules import SFTDataModule
from harness.engines import EngineConfig, open_engine
from harness.engines.weights import checkpoint_version
from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.models.weights import fingerprint, load_causal_lm, load_reward_model, named_weights
from harness.modules import DPOModule, SFTModule, base
from harness.modules.base import LoRAConfig
from harness.modules.optimizer import OptimizerConfig


class Gradients(L.Callback):
    """Keeps the gradients of every optimizer step."""

    def __init__(self):
        self.steps = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.steps.append({name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None})


def gradients(trainer, model_dir, files, batch_size, accumulate, **options):
    found = Gradients()
    module = SFTModule(str(model_dir), optimizer=OptimizerConfig(lr=0.0))
    data = SFTDataModule(files, batch_size=batch_size, max_length=64, **options)
    trainer(accumulate_grad_batches=accumulate, callbacks=[found]).fit(module, data)
    return found.steps


def test_eight_accumulated_batches_give_the_gradients_of_one_batch_of_eight(trainer, tiny_model_dir, sum_files):
    """22 rows: two whole steps, and a last one of six rows."""
    whole = gradients(trainer, tiny_model_dir, [sum_files[0]], 8, 1)
    assert len(whole) == 3
    for batch_size, accumulate in ((1, 8), (2, 4)):
        parts = gradients(trainer, tiny_model_dir, [sum_files[0]], batch_size, accumulate)
        for one, many in zip(whole, parts, strict=True):
            for name in one:
                torch.testing.assert_close(many[name], one[name], atol=1e-6, rtol=0)


def test_the_gradient_is_that_of_the_weighted_mean_over_tokens(trainer, tiny_model_dir, sum_files):
    """Against transformers: every row alone, its token losses weighted by hand."""
    (step,) = gradients(trainer, tiny_model_dir, [sum_files[0]], 22, 1)
    model, tokenizer = load_causal_lm(tiny_model_dir), load_tokenizer(tiny_model_dir)
    total, tokens = torch.zeros(()), 0.0
    for line in open(sum_files[0]):  # noqa: SIM115
        row = json.loads(line)
        prompt = tokenizer(row["prompt"])["input_ids"]
        response = [*tokenizer(row["response"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids = torch.tensor([prompt + response])
        labels = torch.tensor([[-100] * len(prompt) + response])
        total = total + row["weight"] * len(response) * model(input_ids=ids, labels=labels).loss
        tokens += row["weight"] * len(response)
    (total / tokens).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(step[f"model.{name}"], parameter.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_packed_row_is_blind_to_its_neighbours(tmp_path, tiny_model_dir, attention):
    """Changing one row of a packed sequence changes no log-probability of the others."""

    def logits(middle):
        rows = [
            {"prompt": "1=", "response": "123"},
            {"prompt": middle, "response": "45"},
            {"prompt": "3=", "response": "6"},
        ]
        path = tmp_path / f"{middle}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        tokenizer = load_tokenizer(tiny_model_dir)
        (batch,) = SFTDataModule([str(path)], max_length=64, packing=True, tokenizer=tokenizer).train_dataloader()
        text = tokenizer.decode(batch["input_ids"][0])
        model = load_causal_lm(tiny_model_dir, attn_implementation=attention).eval()
        with torch.no_grad():
            out = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[0]
        starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
        assert len(starts) == 3
        pieces = [slice(a, b) for a, b in zip(starts, [*starts[1:], len(out)], strict=True)]
        return {tokenizer.decode(batch["input_ids"][0, piece]): out[piece] for piece in pieces}, text

    (one, text), (other, _) = logits("7="), logits("8=")
    assert text.count("<bos>") == 3
    shared = one.keys() & other.keys()
    assert len(shared) == 2
    for key in shared:
        torch.testing.assert_close(one[key], other[key], atol=0, rtol=0)


def test_packing_changes_neither_loss_nor_gradient(trainer, tiny_model_dir, sum_files):
    (plain,) = gradients(trainer, tiny_model_dir, [sum_files[0]], 22, 1)
    (packed,) = gradients(trainer, tiny_model_dir, [sum_files[0]], 22, 1, packing=True)
    for name in plain:
        torch.testing.assert_close(packed[name], plain[name], atol=1e-6, rtol=1e-4)


def test_the_logged_loss_is_the_mean_over_the_tokens_of_the_step(trainer, tiny_model_dir, sum_files):
    module = SFTModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=0.0))
    data = SFTDataModule([sum_files[0]], [sum_files[0]], batch_size=4, val_batch_size=5, max_length=64)
    fit = trainer(accumulate_grad_batches=6)
    fit.fit(module, data)
    # One step holds all rows and the learning rate is 0, so training and validation measure the same.
    metrics = fit.callback_metrics
    assert metrics["train/loss"].item() == pytest.approx(metrics["val/loss"].item(), rel=1e-6)
    assert metrics["train/accuracy"].item() == pytest.approx(metrics["val/accuracy"].item(), rel=1e-6)
    assert metrics["train/tokens_per_second"] > 0


@pytest.mark.parametrize("packing", [False, True])
def test_the_share_of_the_devices_arithmetic_is_logged_where_its_peak_is_known(
    trainer, tiny_model_dir, sum_files, monkeypatch, packing
):
    def metrics():
        module, fit = SFTModule(str(tiny_model_dir)), trainer(accumulate_grad_batches=2)
        fit.fit(module, SFTDataModule([sum_files[0]], batch_size=2, max_length=64, packing=packing))
        return module, {name: value.item() for name, value in fit.callback_metrics.items()}

    assert "train/mfu" not in metrics()[1]
    monkeypatch.setattr(base, "peak_flops", lambda device: 1e12)
    module, found = metrics()
    token, pair, _ = module.arithmetic
    per_token = found["train/mfu"] * 1e12 / found["train/tokens_per_second"]
    assert token + pair < per_token < token + 64 * pair


def test_the_loss_of_a_step_that_a_logger_does_not_see_is_not_mixed_into_another(
    tmp_path, trainer, tiny_model_dir, sum_files
):
    """11 batches, 4 a step: steps of 8, 8 and 6 rows."""

    def logged(every):
        module = SFTModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=0.0))
        fit = trainer(accumulate_grad_batches=4, log_every_n_steps=every, max_epochs=2)
        fit.fit(module, SFTDataModule([sum_files[0]], batch_size=2, max_length=64))
        rows = csv.DictReader(open(Path(fit.logger.log_dir) / "metrics.csv"))  # noqa: SIM115
        return {int(row["step"]): float(row["train/loss"]) for row in rows if row.get("train/loss")}

    every_step, every_second = logged(1), logged(2)
    assert sorted(every_step) == [0, 1, 2, 3, 4, 5]
    assert sorted(every_second) == [1, 3, 5]
    assert all(every_second[step] == pytest.approx(every_step[step], rel=1e-6) for step in every_second)


def test_fine_tuning_learns_the_data(trainer, tiny_model_dir, sum_files):
    module = SFTModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2, schedule="cosine", total_steps=60))
    data = SFTDataModule([sum_files[0]], [sum_files[1]], batch_size=8, max_length=64)
    fit = trainer(max_epochs=20)
    fit.validate(module, data, verbose=False)
    before = fit.callback_metrics["val/loss"].item()
    fit.fit(module, data)
    assert before > 3.5
    assert fit.callback_metrics["val/loss"] < 1.5
    assert module.num_tokens == 20 * data.read([sum_files[0]])[1].tokens


class Stop(L.Callback):
    """Ends the process' work in the middle of an epoch, as a kill would, after a checkpoint."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


STEPS, EPOCHS = {"every_n_train_steps": 2}, {"every_n_epochs": 1}


EPOCH_LIMIT, STEP_LIMIT = {"max_epochs": 3}, {"max_epochs": -1, "max_steps": 16}
VALIDATIONS = {"val_check_interval": 4}


@pytest.mark.parametrize(
    ("every", "interrupted_at", "reload", "limit"),
    [
        *((STEPS, 4, 0, EPOCH_LIMIT), (STEPS, 4, 1, EPOCH_LIMIT), (STEPS, 6, 0, EPOCH_LIMIT)),
        *((STEPS, 8, 1, EPOCH_LIMIT), (EPOCHS, 8, 0, EPOCH_LIMIT), (EPOCHS, 8, 1, EPOCH_LIMIT)),
        *((STEPS, 4, 0, STEP_LIMIT), (STEPS, 6, 0, STEP_LIMIT), (STEPS, 8, 1, STEP_LIMIT)),
        *((EPOCHS, 8, 0, STEP_LIMIT), (EPOCHS, 8, 1, STEP_LIMIT), ({}, 9, 0, STEP_LIMIT | VALIDATIONS)),
    ],
)
def test_a_killed_and_resumed_run_has_the_weights_of_an_unbroken_one(
    tmp_path, trainer, tiny_model_dir, sum_files, every, interrupted_at, reload, limit
):
    """Six steps an epoch (22 rows, 2 x 2 a step); interrupted inside, at the end of, and after the first epoch."""
    fit = fitter(tmp_path, trainer, tiny_model_dir, sum_files, every, reload_dataloaders_every_n_epochs=reload, **limit)
    unbroken = fit("unbroken")
    fit("broken", Stop(interrupted_at))
    assert_equal(unbroken, fit("broken", ckpt_path=tmp_path / "broken" / "checkpoints" / "last.ckpt"))


@pytest.mark.parametrize("ended_at", [5, 6, 8])
def test_a_run_with_a_higher_limit_of_steps_goes_on_as_if_it_had_had_it_before(
    tmp_path, trainer, tiny_model_dir, sum_files, ended_at
):
    fit = fitter(tmp_path, trainer, tiny_model_dir, sum_files, EPOCHS, **STEP_LIMIT)
    unbroken = fit("unbroken")
    fit("broken", max_steps=ended_at)
    assert_equal(unbroken, fit("broken", ckpt_path=tmp_path / "broken" / "checkpoints" / "last.ckpt"))


def assert_equal(unbroken, resumed):
    assert resumed.num_tokens == unbroken.num_tokens
    for (name, one), (_, two) in zip(named_weights(unbroken.model), named_weights(resumed.model), strict=True):
        assert torch.equal(one, two), name


def fitter(tmp_path, trainer, tiny_model_dir, sum_files, every, **options):
    """A function that fits under a name, with callbacks, from a checkpoint and with other options."""

    def fit(name, *callbacks, ckpt_path=None, **others):
        module = SFTModule(
            str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2, schedule="cosine", total_steps=18, warmup_steps=2)
        )
        data = SFTDataModule([sum_files[0]], [sum_files[1]], batch_size=2, max_length=64)
        saver = HFCheckpoint(dirpath=tmp_path / name / "checkpoints", save_top_k=1, **every)
        runner = trainer(
            accumulate_grad_batches=2, callbacks=[saver, *callbacks], enable_checkpointing=True, **(options | others)
        )
        try:
            runner.fit(module, data, ckpt_path=ckpt_path)
        except SystemExit:
            assert callbacks
        return module

    return fit


def test_new_data_of_each_epoch_come_from_refresh(tmp_path, trainer, tiny_model_dir):
    asked = []

    def refresh(epoch):
        asked.append(epoch)
        path = tmp_path / f"iter_{epoch}.jsonl"
        path.write_text(json.dumps({"prompt": f"{epoch}=", "response": str(epoch)}) + "\n")
        return [str(path)]

    texts = []

    class Seen(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            texts.append(module.tokenizer.decode(batch["input_ids"][0]))

    data = SFTDataModule([], batch_size=1, max_length=64, batches_per_epoch=2)
    data.refresh = refresh
    module = SFTModule(str(tiny_model_dir))
    trainer(max_epochs=3, reload_dataloaders_every_n_epochs=1, callbacks=[Seen()]).fit(module, data)
    assert asked == [0, 1, 2]
    assert texts == [f"<bos>{epoch}={epoch}<eos>" for epoch in (0, 0, 1, 1, 2, 2)]


def test_lora_trains_few_weights_and_exports_them_merged(tmp_path, trainer, tiny_model_dir, sum_files):
    module = SFTModule(str(tiny_model_dir), lora=LoRAConfig(rank=4), optimizer=OptimizerConfig(lr=1e-2))
    trainer().fit(module, SFTDataModule([sum_files[0]], batch_size=8, max_length=64))
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    module.export(tmp_path / "merged")
    plain = load_causal_lm(tmp_path / "merged").eval()
    ids = torch.randint(2, 80, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, module.model.eval()(input_ids=ids).logits)
        merged = copy.deepcopy(module.model).merge_and_unload()
    assert fingerprint(named_weights(merged)) == fingerprint(named_weights(plain))
    assert fingerprint(named_weights(plain)) != fingerprint(named_weights(load_causal_lm(tiny_model_dir)))


def test_the_updates_of_lora_lie_beside_the_merged_weights_and_are_gone_on_from(
    tmp_path, trainer, tiny_model_dir, sum_files
):
    module = SFTModule(str(tiny_model_dir), lora=LoRAConfig(rank=4, alpha=12.0), optimizer=OptimizerConfig(lr=1e-2))
    data = SFTDataModule([sum_files[0]], batch_size=8, max_length=64)
    trainer().fit(module, data)
    module.export(tmp_path / "hf")
    adapter = tmp_path / "hf" / "adapter"
    settings = json.loads((adapter / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["inference_mode"]) == (4, 12.0, True)
    assert Path(settings["base_model_name_or_path"]) == Path(tiny_model_dir).absolute()
    merged = fingerprint(named_weights(load_causal_lm(tmp_path / "hf")))
    assert fingerprint(named_weights(load_causal_lm(adapter))) == merged
    assert merge(str(adapter), tmp_path / "again") == 0
    assert checkpoint_version(tmp_path / "again") == checkpoint_version(tmp_path / "hf")

    further = SFTModule(str(tiny_model_dir), lora=LoRAConfig(adapter=str(adapter)), optimizer=OptimizerConfig(lr=1e-2))
    further.configure_model()
    assert fingerprint(named_weights(further.model)) == merged
    trainer().fit(further, data)
    assert all("lora_" in name for name, p in further.named_parameters() if p.requires_grad)
    assert fingerprint(named_weights(further.model)) != merged
    further.export(tmp_path / "further")
    assert json.loads((tmp_path / "further/adapter/adapter_config.json").read_text())["r"] == 4

    engine = open_engine(adapter, EngineConfig(kind="transformers"))
    assert engine.version == checkpoint_version(tmp_path / "hf")
    engine.close()


def test_an_adapter_in_the_wrong_place_is_one_sentence(tmp_path, trainer, tiny_model_dir, sum_files):
    module = SFTModule(str(tiny_model_dir), lora=LoRAConfig(rank=2))
    module.configure_model()
    module.export(tmp_path / "hf")
    adapter, other = tmp_path / "hf" / "adapter", tmp_path / "other"
    shutil.copytree(tiny_model_dir, other)
    with pytest.raises(InputError, match=r"low-rank updates of .*give that as checkpoint and these as lora.adapter"):
        SFTModule(str(adapter))
    with pytest.raises(InputError, match=r"holds no updates of .*other but of "):
        SFTModule(str(other), lora=LoRAConfig(adapter=str(adapter))).configure_model()
    with pytest.raises(InputError, match="holds no updates of "):
        SFTModule(str(other), lora=LoRAConfig(adapter=str(other))).configure_model()
    with pytest.raises(InputError, match=r"lora.adapter: the reference, .*harness merge"):
        DPOModule(str(tiny_model_dir), lora=LoRAConfig(adapter=str(adapter)))
    with pytest.raises(InputError, match="an adapter has no reward head"):
        load_reward_model(adapter)
    with pytest.raises(InputError, match="no adapter"):
        merge(str(other), tmp_path / "new")
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "SHA256SUMS").unlink()
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "/gone/base"}))
    with pytest.raises(InputError, match="the model that it adapts is '/gone/base', which is not there"):
        open_engine(adapter, EngineConfig(kind="transformers"))


def test_gradient_checkpointing_changes_no_weight(trainer, tiny_model_dir, sum_files):
    def fitted(**options):
        module = SFTModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2), **options)
        trainer().fit(module, SFTDataModule([sum_files[0]], batch_size=8, max_length=64))
        return fingerprint(named_weights(module.model))

    assert fitted(gradient_checkpointing=True) == fitted() == fitted(gradient_checkpointing=2)


def test_every_second_layer_is_recomputed(tiny_model_dir, monkeypatch):
    ran = Counter()
    monkeypatch.setattr(LlamaDecoderLayer, "forward", _counted(LlamaDecoderLayer.forward, ran))
    for every, times in ((False, [1, 1]), (True, [2, 2]), (2, [2, 1])):
        ran.clear()
        model = load_causal_lm(tiny_model_dir, gradient_checkpointing=every)
        model(torch.tensor([[3, 4, 5]])).logits.sum().backward()
        assert [ran[layer] for layer in model.model.layers] == times
    with pytest.raises(InputError, match="gradient_checkpointing is -1; give true, false or 2, 3"):
        SFTModule(str(tiny_model_dir), gradient_checkpointing=-1)


def _counted(forward, ran):
    def count(layer, *args, **options):
        ran[layer] += 1
        return forward(layer, *args, **options)

    return count


@pytest.mark.slow
def test_compiled_layers_give_the_same_loss(trainer, tiny_model_dir, sum_files):
    def loss(**options):
        module = SFTModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2), **options)
        fit = trainer()
        fit.fit(module, SFTDataModule([sum_files[0]], batch_size=8, max_length=64))
        return fit.callback_metrics["train/loss"].item(), module

    plain, _ = loss()
    compiled, module = loss(compile=True)
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert all(block._compiled_call_impl is not None for block in module.model.model.layers)
    assert not any("_orig_mod" in name for name, _ in named_weights(module.model))


def test_bf16_mixed_keeps_the_weights_in_float32(trainer, tiny_model_dir, sum_files):
    module = SFTModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2))
    fit = trainer(precision="bf16-mixed")
    fit.fit(module, SFTDataModule([sum_files[0]], batch_size=8, max_length=64))
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert torch.isfinite(fit.callback_metrics["train/loss"])


def test_a_schedule_without_a_length_is_refused(trainer, tiny_model_dir, sum_files):
    module = SFTModule(str(tiny_model_dir), optimizer=OptimizerConfig(schedule="cosine"))
    with pytest.raises(InputError, match=r"set optimizer\.total_steps"):
        trainer().fit(module, SFTDataModule([sum_files[0]], batch_size=8, max_length=64))


def test_only_the_weights_named_are_trained(trainer, tiny_model_dir, sum_files):
    """As B-STaR's released code: no embeddings, output matrix or norms."""
    optimizer = OptimizerConfig(lr=1e-2, trainable=["self_attn", "mlp"])
    module = SFTModule(str(tiny_model_dir), optimizer=optimizer)
    loop = trainer(max_steps=2)
    loop.fit(module, SFTDataModule(sum_files[:1], batch_size=8, max_length=64))
    before = load_causal_lm(tiny_model_dir).state_dict()
    changed = {name for name, weight in module.model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {name for name in before if "self_attn" in name or "mlp" in name}
    assert any("embed_tokens" in name for name in before)
    assert any("norm" in name for name in before)
    held = [weight for group in loop.optimizers[0].param_groups for weight in group["params"]]
    assert len(held) == len(changed)


@pytest.mark.parametrize(("pattern", "message"), [("atention", "fits no weight"), ("(", "no regular expression")])
def test_a_pattern_that_names_nothing_to_train_is_refused(tiny_model_dir, pattern, message):
    with pytest.raises(InputError, match=message):
        SFTModule(str(tiny_model_dir), optimizer=OptimizerConfig(trainable=["mlp", pattern])).configure_model()


def test_gradients_are_clipped_in_mixed_precision(trainer, tiny_model_dir, sum_files):
    """Lightning refuses to clip those of a fused step there."""
    module = SFTModule(str(tiny_model_dir))
    fit = trainer(precision="bf16-mixed", gradient_clip_val=1.0, max_steps=1)
    fit.fit(module, SFTDataModule([sum_files[0]], batch_size=2, max_length=64))
    assert fit.global_step == 1
