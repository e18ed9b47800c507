"""What is wrong with the rows of a fit is said before its model is loaded."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from harness.callbacks import RolloutCallback
from harness.cli.main import main
from harness.datamodules import PolicyDataModule, PreferenceDataModule, SFTDataModule, StepDataModule
from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.modules import DPOModule, PolicyGradientModule, ProcessRewardModule, RewardModule, SFTModule
from harness.objectives import DPPO, GRPO, PassK
from harness.selection import FixedSampling
from harness.types import SamplingConfig

CHAT = [{"role": "user", "content": "1="}, {"role": "assistant", "content": "1"}]
POLICY = {"prompt": "1=", "response": "1", "advantage": 1.0}
BAD_LOGPS = POLICY | {"token_ids": [3], "token_logps": [-1.0, -2.0]}
SFT = {"prompt": "1=", "response": "1"}


@pytest.fixture(scope="module")
def unloadable(tmp_path_factory, tiny_model_dir):
    """The tiny model's folder with weights that are whole and no model's."""
    folder = tmp_path_factory.mktemp("unloadable") / "hf"
    load_tokenizer(tiny_model_dir).save_pretrained(folder)
    (folder / "config.json").write_bytes((tiny_model_dir / "config.json").read_bytes())
    save_file({"model.embed_tokens.weight": torch.zeros(3, 3)}, folder / "model.safetensors", {"format": "pt"})
    return folder


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(path)] if rows else []


@pytest.mark.parametrize(
    ("module", "data", "rows", "val_rows", "message"),
    [
        (SFTModule, SFTDataModule, [SFT, {"prompt": "1="}], [], "train.jsonl:2: missing column 'response'"),
        (SFTModule, SFTDataModule, [SFT], [{"text": "1=1"}], "val.jsonl:1: missing column 'prompt'"),
        (SFTModule, SFTDataModule, [{"messages": CHAT}], [], "train.jsonl:1: the row is a chat, but the model's"),
        (SFTModule, SFTDataModule, [SFT | {"prompt": "1" * 3000}], [], "train.jsonl:1: the prompt has 3001 tokens"),
        (DPOModule, PreferenceDataModule, [{"prompt": "1=", "chosen": "1"}], [], "train.jsonl:1: missing column"),
        (
            RewardModule,
            PreferenceDataModule,
            [{"chosen": CHAT, "rejected": []}],
            [],
            "train.jsonl:1: expected text or a list",
        ),
        (ProcessRewardModule, StepDataModule, [{"prompt": "1=", "steps": ["1"]}], [], "train.jsonl:1: `labels` must"),
        (PolicyGradientModule, PolicyDataModule, [POLICY], [], "train.jsonl:1: missing column 'token_ids'"),
        (PolicyGradientModule, PolicyDataModule, [BAD_LOGPS], [], "train.jsonl:1: 2 log-prob"),
    ],
)
def test_rows_are_checked_before_the_model_is_loaded(
    trainer, tmp_path, unloadable, module, data, rows, val_rows, message
):
    options = {"objective": GRPO()} if module is PolicyGradientModule else {}
    files = [write(tmp_path / "train.jsonl", rows), write(tmp_path / "val.jsonl", val_rows)]
    with pytest.raises(InputError, match=message):
        trainer().fit(module(str(unloadable), **options), data(*files[: 2 if val_rows else 1]))


def test_that_model_would_fail_to_load(trainer, tmp_path, unloadable):
    with pytest.raises(InputError, match=f"{unloadable}: the checkpoint"):
        trainer().fit(SFTModule(str(unloadable)), SFTDataModule(write(tmp_path / "train.jsonl", [SFT])))


def test_problems_of_a_loop_are_checked_before_the_model_is_loaded(trainer, tmp_path, unloadable):
    problems = write(tmp_path / "problems.jsonl", [{"question": "1+1?", "answer": "2"}, {"question": "2+2?"}])
    loop = trainer(
        callbacks=[RolloutCallback(problems, FixedSampling(SamplingConfig()))], reload_dataloaders_every_n_epochs=1
    )
    with pytest.raises(InputError, match=r"problems.jsonl:2: "):
        loop.fit(SFTModule(str(unloadable)), SFTDataModule([]))


@pytest.mark.parametrize(
    ("objective", "sampling", "message"),
    [
        (GRPO(), SamplingConfig(n=1), r"credit 'group_norm' compares the responses to a problem .* a problem has 1"),
        (PassK(pass_k=4), SamplingConfig(n=2), "pass_k 4 needs as many responses to each problem, found 2"),
        (GRPO(), SamplingConfig(n=4, top_p=0.9), "sampled with top_p 0.9, which draws from another distribution"),
        (DPPO(), SamplingConfig(n=4, temperature=0.7), "at temperature 0.7, but engines report"),
    ],
)
def test_sampling_that_an_objective_cannot_learn_from_is_refused_before_the_model_is_loaded(
    trainer, tmp_path, unloadable, objective, sampling, message
):
    problems = write(tmp_path / "problems.jsonl", [{"question": "1+1?", "answer": "2"}])
    callback = RolloutCallback(problems, FixedSampling(sampling))
    loop = trainer(callbacks=[callback], reload_dataloaders_every_n_epochs=1)
    with pytest.raises(InputError, match=message):
        loop.fit(PolicyGradientModule(str(unloadable), objective), PolicyDataModule())


def test_the_command_says_it_in_one_sentence(tmp_path, unloadable, capsys):
    [file] = write(tmp_path / "train.jsonl", [SFT, {"prompt": "1="}])
    data = ["--data", "SFTDataModule", "--data.train_files", json.dumps([file])]
    quiet = ["--trainer.logger", "false", "--trainer.accelerator", "cpu", "--run_dir", str(tmp_path / "run")]
    assert main(["fit", "--model", "SFTModule", "--model.checkpoint", str(unloadable), *data, *quiet]) == 2
    [error] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: {file}:2: missing column 'response' (or 'completion'); found")
