"""Mistakes as people make them, given to `harness fit`: rows, files, sources, prompts, values and names of options.

Each ends with one sentence and status 2, and before the model is loaded, for the one here cannot be.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from tests.cli.test_cli import error_of
from tests.datamodules.test_shapes import BAD_ROWS, CHAT_TEMPLATE
from tests.prompts.test_find import BAD_TEMPLATES
from tests.test_sources import BAD_FILES, BAD_SOURCES, write_sources

pytestmark = pytest.mark.slow

READERS = {
    "sft_row": ("SFTModule", "SFTDataModule"),
    "preference_row": ("DPOModule", "PreferenceDataModule"),
    "unpaired_row": ("KTOModule", "UnpairedDataModule"),
    "step_row": ("ProcessRewardModule", "StepDataModule"),
}
SFT = READERS["sft_row"]
GOOD = '{"prompt": "1+1=", "response": "2"}\n'
BAD_VALUES = [
    (["--trainer.max_epochs", "three"], "trainer.max_epochs: 'three' is not a valid value, expected int"),
    (["--trainer.gradient_clip_val", "much"], "trainer.gradient_clip_val: 'much' is not a valid value, expected"),
    (["--data.batch_size", "8.5"], "SFTDataModule: batch_size: '8.5' is not a valid value, expected int."),
    (["--data.max_length", "long"], "SFTDataModule: max_length: 'long' is not a valid value, expected int."),
    (["--data.shuffel", "true"], "SFTDataModule: unknown key 'shuffel'; known are append_eos, batch_size,"),
    (["--model.checkpiont", "x"], "unknown key 'checkpiont'; did you mean 'checkpoint'?"),
    (["--model.optimizer.lr", "fast"], "OptimizerConfig: lr: 'fast' is not a valid value, expected float."),
    (["--model.optimizer.lr_", "1e-3"], "OptimizerConfig: unknown key 'lr_'; did you mean 'lr'?"),
    (["--seed_everything", "x"], "seed_everything: 'x' is not a valid value, expected bool or int."),
    (["--ckpt_path", "none.ckpt"], "ckpt_path: none.ckpt: no such checkpoint"),
    (["--data.template", "plian"], "did you mean 'plain'"),
]


@pytest.fixture(scope="module")
def unloadable(tmp_path_factory, tiny_model_dir, tiny_tokenizer):
    """A chat model's folder with weights that are whole and no model's."""
    folder = tmp_path_factory.mktemp("unloadable") / "hf"
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_bytes((tiny_model_dir / "config.json").read_bytes())
    save_file({"model.embed_tokens.weight": torch.zeros(3, 3)}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def mistake(capsys, tmp_path, monkeypatch, unloadable):
    """Runs `harness fit` on some data and checks that it is refused, and how."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def check(message, train_files, classes=SFT, options=()):
        config = {
            "model": {"class_path": classes[0], "init_args": {"checkpoint": str(unloadable)}},
            "data": {"class_path": classes[1], "init_args": {"train_files": train_files, "template": "plain"}},
            "trainer": {"accelerator": "cpu", "logger": False, "max_epochs": 1},
            "run_dir": "run",
        }
        Path("config.yaml").write_text(yaml.safe_dump(config))
        said = error_of(capsys, "fit", "--config", "config.yaml", *options)
        assert re.search(message, said), said
        assert "the checkpoint cannot be opened" not in said

    return check


def test_that_model_cannot_be_loaded(mistake):
    Path("a.jsonl").write_text(GOOD)
    with pytest.raises(AssertionError, match="hf: the checkpoint"):
        mistake("no such mistake", ["a.jsonl"])


@pytest.mark.parametrize(("read", "row", "message"), BAD_ROWS)
def test_rows(mistake, read, row, message):
    Path("a.jsonl").write_text(json.dumps(row) + "\n")
    mistake(f"^error: a.jsonl:1: .*{message}", ["a.jsonl"], READERS[read.__name__])


@pytest.mark.parametrize("name", BAD_FILES)
def test_files(mistake, name):
    content, message = BAD_FILES[name]
    Path(name).write_bytes(content)
    mistake(message, [name])


@pytest.mark.parametrize(("given", "message"), BAD_SOURCES)
def test_sources(mistake, given, message):
    write_sources()
    mistake(message, [given])


@pytest.mark.parametrize(("given", "message"), BAD_TEMPLATES)
def test_templates(mistake, given, message):
    Path("a.jsonl").write_text(GOOD)
    mistake(message, ["a.jsonl"], options=["--data.template", json.dumps(given) if isinstance(given, dict) else given])


@pytest.mark.parametrize(("options", "message"), BAD_VALUES)
def test_values(mistake, options, message):
    Path("a.jsonl").write_text(GOOD)
    mistake(re.escape(message), ["a.jsonl"], options=options)
