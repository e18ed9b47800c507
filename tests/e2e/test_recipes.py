"""Every recipe runs: one real iteration, or stage, with a tiny model of its architecture and a handful of problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.main import main
from harness.commands.prepare import prepare
from harness.rollouts.trees import read_trees
from harness.store import write_rows
from harness.types import (
    PreferencePair,
    Problem,
    Response,
    Rollout,
    ScoredResponse,
    SFTExample,
    StepExample,
    UnitTest,
)
from tests.test_configs import CONFIGS, ROOT, launch_line

# Self-Explore pairs right responses with wrong ones, which a random model does not give; its two stages that sample are
# run with hand-written responses in tests/rollouts/test_explorations.py and parsed in tests/test_configs.py.
NEED_RIGHT_RESPONSES = ("20_rollout", "40_explore")
# A policy gradient has nothing to learn from the equal rewards of a random model: the loop is run in
# tests/callbacks/test_policy_loop.py, the objectives in tests/objectives, the recipes parsed in tests/test_configs.py.
RECIPES = sorted(
    path
    for path in CONFIGS.glob("recipes/**/*.yaml")
    if not ("self_explore" in path.parts and path.stem in NEED_RIGHT_RESPONSES) and "rlvr" not in path.parts
)
NUM_PROBLEMS = 3


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS / "recipes"))


def save_model(folder: Path, architecture: str) -> Path:
    """A random two-layer model that reads bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = "{% for m in messages %}<s>{{ m.content }}\n{% endfor %}"
    sizes = {
        "vocab_size": len(words),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 2048,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    torch.manual_seed(0)
    kinds = {"mistral": (MistralConfig, MistralForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
    config, model_class = kinds[architecture]
    model = model_class(config(**sizes))
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    prepare(folder / "arithmetic", num_sft=6, num_train=6, num_probe=3, num_test=3)
    found = {kind: save_model(folder / kind, kind) for kind in ("mistral", "llama")}
    return {**found, "arithmetic": folder / "arithmetic/base"}


class Shrunk:
    """A recipe with its inputs swapped for small ones, which it writes beside its outputs."""

    def __init__(self, recipe: Path, folder: Path, models: dict[str, Path]) -> None:
        self.recipe, self.folder = recipe, folder
        name = recipe.parent.name.replace("starter", "arithmetic")
        kind = next((kind for kind in ("mistral", "arithmetic") if kind in name), "llama")
        self.model = str(models[kind])
        self.arithmetic = kind == "arithmetic"
        self.coding = "apps" in recipe.parent.name
        self.config = self.shrink(yaml.safe_load(recipe.read_text()))

    def shrink(self, value: Any, key: str = "") -> Any:
        match value:
            case dict():
                return {k: self.shrink(v, k) for k, v in value.items()} | self.smaller(value, key)
            case list():
                return [self.shrink(item, key) for item in value]
            case str() if key in ("output", "rows", "sft_rows", "pair_rows", "answer_pair_rows", "value_rows"):
                return str(self.folder / Path(value).name)
            case str() if key == "run_dir":
                return str(self.folder / "run")
            case str() if key == "task":
                return self.file("task.jsonl", key)
            case str() if key in ("checkpoint", "model") or (key == "weights" and value != "previous"):
                return self.model
            case str() if value.endswith((".jsonl", ".jsonl.gz")):
                return self.file(value, key)
        return value

    def smaller(self, node: dict[str, Any], key: str) -> dict[str, Any]:
        """Sizes of this part of the recipe; thresholds under which a random model's responses are kept."""
        known: dict[str, dict[str, Any]] = {
            "sampling": {"n": min(node.get("n", 1), 2), "max_tokens": 8},
            "sandbox": {"init_args": {"modules": ["math"], "workers": 1}},
            "engine": {
                "kind": "transformers",
                "dtype": "float32",
                "max_model_len": min(node.get("max_model_len", 384), 2048),
            },
            "evaluation": {"max_tokens": 8},
            "trainer": {
                "devices": 1,
                "accelerator": "cpu",
                "precision": "32-true",
                "max_epochs": 1,
                "log_every_n_steps": 1,
                "enable_progress_bar": False,
            },
        }
        found = dict(known.get(key, {}))
        sizes = {
            "batch_size": 2,
            "batches_per_epoch": 2,
            "max_length": min(node.get("max_length", 384), 384),
            "problems_per_iteration": NUM_PROBLEMS,
            "thresholds": [-100.0, 0.0],
            "reward_threshold": -100.0,
            "limit": NUM_PROBLEMS,
            "cycle_steps": 2,
            "candidates": 2,
            "rollouts": 2,
            "num_trees": 2,
            "hard_trees": [1],
            "width": 2,
        }
        if not key and "task" in node:
            found |= {"n": min(node.get("n", 1), 2), "max_tokens": 8}
        found |= {name: size for name, size in sizes.items() if name in node}
        if "temperatures" in node:
            found["temperatures"] = node["temperatures"][:2]
        if "thresholds" in node:
            found |= {"keep_cut": True, "keep_unanswered": True}
        if str(node.get("class_path", "")).endswith("TopK"):
            found["init_args"] = {**node.get("init_args", {}), "keep_cut": True, "keep_unanswered": True}
        if str(node.get("class_path", "")).endswith("OutcomePairs"):
            found["init_args"] = {**node.get("init_args", {}), "margin": 0.0}
        if "select" in node and "rows" in node:
            found["reward_threshold"] = -100.0
        return found

    def file(self, path: str, key: str) -> str:
        """A small file of the rows that stand in `path`; problems of differently named files differ."""
        target = self.folder / "data" / path.replace("/", "_").removesuffix(".gz")
        stem = Path(path).name.partition(".")[0]
        rows: list[Any] = [self.problem(stem, i) for i in range(NUM_PROBLEMS)]
        if key == "start":
            rows = [Rollout(problem, self.responses()) for problem in rows]
        elif stem in ("steps", "values"):
            rows = [StepExample("1 + 1 ?\n", ("2\n", "#### 2"), (1.0, 0.0))] * 4
        elif stem in ("pairs", "answer_pairs"):
            rows = [PreferencePair("1 + 1 ?\n", "#### 2", "#### 3")] * 4
        elif stem == "apps_sft":
            rows = [SFTExample("Print 1.", "print(1)")] * 4
        write_rows(target, rows)
        return str(target)

    def responses(self) -> tuple[ScoredResponse, ...]:
        lines = ("2 + 2\n", "4\n", "#### 4") if self.arithmetic else ("First.\n\n", "Then.\n\n# Answer\n\n4")
        return (ScoredResponse(Response(lines, "stop", tuple(range(3, 9)))),)

    def problem(self, stem: str, index: int) -> Problem:
        number = 3 * (sum(map(ord, stem)) % 15) + index
        question = f"{number} + 1 - 1" if self.arithmetic else f"What is {number} plus 1 in {stem}?"
        tests = (UnitTest("", str(number)),) if self.coding else ()
        # In the form of every template, as files are checked to be.
        solution = f"\\boxed{{{number}}}\n#### {number}\nThe answer is {number}\n\n# Answer\n\n{number}"
        return Problem(f"{stem}/{index}", question, "" if tests else str(number), solution, tests=tests)


def problems_of(recipe: Path) -> str:
    """The stem of the recipe's file of problems, with which their ids begin."""
    return Path(yaml.safe_load(recipe.read_text())["problems"][0]).stem


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_runs_with_a_tiny_model(recipe, tmp_path, models, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    small = Shrunk(recipe, tmp_path, models)
    command = launch_line(recipe)[0]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(small.config))
    status = main([command, "--config", str(path)])
    assert status == 0, capsys.readouterr().err
    if command == "trees":
        grown = read_trees(tmp_path / "trees.jsonl")
        assert {tree.problem.id for tree in grown} == {f"{problems_of(recipe)}/{i}" for i in range(NUM_PROBLEMS)}
        assert all(len(tree.nodes) > 1 for tree in grown)
        return
    if command == "eval":
        results = json.loads((Path(small.config["output"]) / "results.json").read_text())
        assert results["counts"]["problems"] == NUM_PROBLEMS
        assert "search" not in small.config or results["metrics"]["tokens_drawn"]["value"] > 0
        return
    if command == "rollout":
        lines = (tmp_path / Path(small.config["output"]).name).read_text().splitlines()
        assert len(lines) == NUM_PROBLEMS
        assert "rows" not in small.config or Path(small.config["rows"]).read_text()
        return
    assert (tmp_path / "run/hf/config.json").exists()
    if "RolloutCallback" in recipe.read_text():
        manifest = json.loads((tmp_path / "run/rollouts/iter_001.json").read_text())
        assert manifest["monitors"]["num_rows"] > 0
        assert (tmp_path / "run/rollouts/eval_001.json").exists()
