"""Every checkpoint is also a Hugging Face directory, and `hf` is always a complete one."""

from __future__ import annotations

import json
import resource
import shutil
import tempfile

import lightning as L
import pytest
import torch

from harness.callbacks.checkpoint import HFCheckpoint, hf_directory, publish
from harness.callbacks.checkpoint_io import LocalCheckpointIO
from harness.datamodules import SFTDataModule
from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.models.weights import fingerprint, load_causal_lm, named_weights
from harness.modules import SFTModule
from harness.modules.optimizer import OptimizerConfig


@pytest.fixture
def fit(tmp_path, tiny_model_dir):
    """Fit six steps, two an epoch; returns the module, its Trainer and the run directory."""
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{i}=", "response": str(i)}) + "\n" for i in range(8)))

    def run(
        ckpt_path=None, max_epochs=3, max_steps=-1, val_check_interval=None, val=False, watch=None, at="run", **options
    ):
        module = SFTModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2))
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=max_epochs,
            max_steps=max_steps,
            val_check_interval=val_check_interval,
            check_val_every_n_epoch=None if val_check_interval else 1,
            callbacks=[HFCheckpoint(dirpath=tmp_path / at / "checkpoints", **options), *([watch] if watch else [])],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(
            module, SFTDataModule([str(path)], [str(path)] * val, batch_size=4, max_length=16), ckpt_path=ckpt_path
        )
        return module, trainer, tmp_path / at

    return run


def test_every_ckpt_has_a_directory_of_its_stem_with_the_same_weights(fit):
    from transformers import AutoModelForCausalLM

    module, _, run = fit(save_top_k=-1)
    ckpts = sorted((run / "checkpoints").glob("*.ckpt"))
    assert [path.name for path in ckpts] == [
        "epoch=0-step=2.ckpt",
        "epoch=1-step=4.ckpt",
        "epoch=2-step=6.ckpt",
        "last.ckpt",
    ]
    for path in ckpts:
        state = torch.load(path, weights_only=False)["state_dict"]
        model = AutoModelForCausalLM.from_pretrained(hf_directory(path))
        for name, tensor in named_weights(model):
            assert torch.equal(tensor, state[f"model.{name}"]), (path, name)
    newest = load_causal_lm(run / "hf")
    assert fingerprint(named_weights(newest)) == fingerprint(named_weights(module.model))
    assert load_tokenizer(run / "hf")("1=")["input_ids"] == module.tokenizer("1=")["input_ids"]


def test_directories_may_be_in_half_the_bytes_while_a_resumed_run_stays_the_same(fit):
    from transformers import AutoModelForCausalLM

    whole, _, run = fit(max_epochs=2)
    _, _, rounded = fit(max_epochs=1, at="rounded", export_dtype="bfloat16")
    resumed, _, _ = fit(rounded / "checkpoints" / "last.ckpt", max_epochs=2, at="rounded", export_dtype="bfloat16")
    assert fingerprint(named_weights(resumed.model)) == fingerprint(named_weights(whole.model))
    model = AutoModelForCausalLM.from_pretrained(rounded / "hf")  # in the type that its configuration names
    expected = dict(named_weights(whole.model))
    for name, tensor in named_weights(model):
        assert tensor.dtype == torch.bfloat16, name
        assert torch.equal(tensor, expected[name].bfloat16()), name
    sizes = [(folder / "hf" / "model.safetensors").stat().st_size for folder in (rounded, run)]
    assert sizes[0] < 0.6 * sizes[1]


def test_removing_a_checkpoint_removes_its_directory_but_never_hf(fit):
    _, _, run = fit(save_top_k=1)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "epoch=2-step=6",
        "epoch=2-step=6.ckpt",
        "last",
        "last.ckpt",
    ]
    shutil.rmtree(run / "checkpoints")
    load_causal_lm(run / "hf")
    assert sorted(path.name for path in run.iterdir()) == [".hf-step=6", "hf"]


def test_last_shares_its_files_with_the_checkpoint_of_the_same_step(fit):
    _, _, run = fit()
    one, last = (run / "checkpoints" / name / "model.safetensors" for name in ("epoch=2-step=6", "last"))
    assert one.samefile(last)


def test_ckpt_path_last_resumes(fit):
    whole, _, _ = fit()
    expected = fingerprint(named_weights(whole.model))
    shutil.rmtree(whole.trainer.checkpoint_callback.dirpath)
    fit(max_epochs=2)
    resumed, trainer, run = fit(ckpt_path="last")
    assert trainer.global_step == 6
    assert fingerprint(named_weights(resumed.model)) == expected
    assert fingerprint(named_weights(load_causal_lm(run / "hf"))) == expected


def test_a_run_that_was_moved_goes_on_in_its_new_place(fit, tmp_path):
    fit(max_epochs=2)
    (tmp_path / "run").rename(tmp_path / "moved")
    _, trainer, run = fit(ckpt_path=tmp_path / "moved/checkpoints/last.ckpt", at="moved")
    assert trainer.global_step == 6
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["epoch=2-step=6", "epoch=2-step=6.ckpt", "last", "last.ckpt"]
    load_causal_lm(run / "hf")


def test_a_reader_of_hf_sees_the_old_or_the_new_directory(tmp_path):
    for number in range(3):
        folder = tmp_path / "checkpoints" / "same"
        folder.mkdir(parents=True)
        (folder / "weights").write_text(str(number))
        publish(folder, tmp_path / "hf", "step=1")
        shutil.rmtree(folder)
        assert (tmp_path / "hf" / "weights").read_text() == str(number)
        assert len(list(tmp_path.glob(".hf-*"))) == 1


def test_an_interrupted_export_leaves_the_old_directory(fit, monkeypatch):
    from transformers import PreTrainedModel

    fit(max_epochs=1)
    original = PreTrainedModel.save_pretrained

    def torn(self, folder, **options):
        original(self, folder, **options)
        (folder / "model.safetensors").write_bytes(b"torn")
        raise KeyboardInterrupt

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", torn)
    with pytest.raises(SystemExit):
        fit(max_epochs=2, ckpt_path="last")
    monkeypatch.undo()
    _, _, run = fit(max_epochs=2, ckpt_path="last")
    folders = {path.name for path in (run / "checkpoints").iterdir() if path.is_dir()}
    assert folders == {"epoch=1-step=4", "last"}
    load_causal_lm(run / "hf")


def test_a_checkpoint_goes_straight_to_its_folder(fit, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))
    _, _, run = fit(max_epochs=1)
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=False)["global_step"] == 2


def test_a_checkpoint_that_cannot_be_finished_leaves_the_one_before(tmp_path):
    class Unwritable:
        def __reduce__(self):
            raise OSError(28, "No space left on device")

    path = tmp_path / "last.ckpt"
    LocalCheckpointIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(InputError, match=r"last.ckpt: cannot be written \(No space left on device\)"):
        LocalCheckpointIO().save_checkpoint({"weights": torch.zeros(9), "step": Unwritable()}, path)
    assert torch.load(path, weights_only=False) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("limit", [5_000, 50_000, 81_000])
def test_a_disk_that_fills_up_while_a_checkpoint_is_saved_is_one_sentence(tmp_path, limit):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(InputError, match=r"last.ckpt: cannot be written \(File too large\); nothing was replaced"):
            LocalCheckpointIO().save_checkpoint(
                {"a": torch.zeros(10000), "b": torch.zeros(10000)}, tmp_path / "last.ckpt"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_a_killed_start_left_is_replaced_not_numbered(fit):
    _, _, run = fit(max_epochs=2)
    for path in ("last.ckpt", "epoch=1-step=4.ckpt"):  # as if killed in the first epoch's save, before `last`
        (run / "checkpoints" / path).rename(run / "checkpoints" / path.replace("epoch=1-step=4", "epoch=0-step=2"))
    (run / "checkpoints/last.ckpt").unlink()
    fit(max_epochs=1, ckpt_path="last")
    names = sorted(path.name for path in (run / "checkpoints").glob("*.ckpt"))
    assert names == ["epoch=0-step=2.ckpt", "last.ckpt"]
    assert torch.load(run / "checkpoints/epoch=0-step=2.ckpt", weights_only=False)["global_step"] == 2


def test_checkpoints_of_one_name_within_a_run_are_numbered(fit):
    _, _, run = fit(save_top_k=-1, monitor="train/loss", filename="same")
    assert sorted(path.name for path in (run / "checkpoints").glob("same*.ckpt")) == [
        "same-v1.ckpt",
        "same-v2.ckpt",
        "same.ckpt",
    ]


@pytest.mark.parametrize("options", [{}, {"save_last": False}, {"save_last": "link"}, {"monitor": "val/loss"}])
def test_the_end_of_a_fit_between_two_validations_is_saved_and_a_line_says_where(fit, options, caplog):
    with caplog.at_level("INFO"):
        module, trainer, run = fit(max_epochs=9, max_steps=5, val_check_interval=2, val=True, **options)
    assert trainer.global_step == 5
    weights = fingerprint(named_weights(module.model))
    assert fingerprint(named_weights(load_causal_lm(run / "hf"))) == weights
    assert (run / "hf").resolve().name == ".hf-step=5"
    pattern = "last.ckpt" if options.get("save_last", True) else "epoch=*-step=5.ckpt"
    newest = next((run / "checkpoints").glob(pattern))
    assert torch.load(newest, weights_only=False)["global_step"] == 5
    line = f"{run / 'hf'}: the model after step 5; measure it with `harness eval --model {run / 'hf'} --task TASK`"
    assert line in caplog.text


def test_a_fit_that_ended_between_two_validations_goes_on_from_its_end(fit):
    first, _, run = fit(max_epochs=9, max_steps=5, val_check_interval=2, val=True)
    ended = fingerprint(named_weights(first.model))
    seen = []

    class Watch(L.Callback):
        def on_train_start(self, trainer, module):
            seen.append((trainer.global_step, fingerprint(named_weights(module.model))))

    _, trainer, _ = fit(ckpt_path="last", max_epochs=9, max_steps=8, val_check_interval=2, val=True, watch=Watch())
    assert seen == [(5, ended)]
    assert trainer.global_step == 8
    assert (run / "hf").resolve().name == ".hf-step=8"
