"""Reward models of ours are opened by vLLM's pooling runner, with the rewards that they have here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from harness.models.checkpoints import load_tokenizer
from harness.models.weights import load_reward_model, rewards_at, save_checkpoint
from tests.engines.conftest import build_tokenizer, need_vllm
from tests.families.zoo import build

FAMILIES = ("granite", "olmoe")
"""Transformers has no classifier for either; the second has experts."""
ROWS = [list(range(5, 25)), list(range(60, 30, -1))]
SERVE = """
import json, sys
from vllm import LLM, PoolingParams
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.inputs import tokens_input
from vllm.model_executor.models import registry

registry._run_in_subprocess = lambda function: function()
rows, *folders = json.loads(sys.argv[1])
found = []
for folder in folders:
    model = LLM(folder, runner="pooling", dtype="float32", enforce_eager=True, kv_cache_memory_bytes=2**26)
    prompts = [tokens_input(row) for row in rows]
    outputs = model.classify(prompts, pooling_params=PoolingParams(use_activation=False), use_tqdm=False)
    found.append([output.outputs.probs[0] for output in outputs])
    del model
    cleanup_dist_env_and_memory()
print("found", json.dumps(found))
"""


@pytest.mark.vllm
@pytest.mark.families
def test_vllms_pooling_runner_gives_the_rewards_of_classifiers_that_transformers_lacks(tmp_path, monkeypatch):
    need_vllm()
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    expected, folders = [], []
    for family in FAMILIES:
        base, folder = tmp_path / "base" / family, tmp_path / family
        build(family).save_pretrained(base)
        tokenizer = build_tokenizer()
        tokenizer.add_special_tokens({"pad_token": "!"})  # a reward model pads with another token than EOS
        tokenizer.save_pretrained(base)
        model = load_reward_model(base, head_start=(0.0, 0.3))
        save_checkpoint(model, load_tokenizer(base, distinct_pad=True), folder)
        folders.append(str(folder))
        with torch.no_grad():
            ends = [torch.tensor([len(row) - 1]) for row in ROWS]
            rewards = [rewards_at(model.eval(), torch.tensor([row]), end) for row, end in zip(ROWS, ends, strict=True)]
        expected.append([reward.item() for reward in rewards])
    # In a process of its own, as vLLM takes its distributed state down for every engine of one.
    command = [sys.executable, "-c", SERVE, json.dumps([ROWS, *folders])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    torch.testing.assert_close(
        torch.tensor(json.loads(line.removeprefix("found "))), torch.tensor(expected), atol=1e-4, rtol=1e-4
    )
