"""`harness recipes`, `harness init`, and what is said of a config that lies elsewhere."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.commands.init import init
from harness.errors import InputError
from harness.recipes import find_recipes, first_sentence
from tests.paths import ROOT


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def test_every_folder_of_configs_is_a_recipe_with_one_line_and_every_config_says_how_it_is_launched(capsys):
    assert main(["recipes"]) == 0
    printed = capsys.readouterr().out
    folders = {
        str(path.parent.relative_to(ROOT / "configs/recipes")) for path in ROOT.glob("configs/recipes/**/*.yaml")
    }
    assert {line.split()[0] for line in printed.splitlines()} == folders
    for recipe in find_recipes():
        assert recipe.summary
        for config in recipe.configs:
            assert config.launch.startswith("harness "), config.path
            assert config.summary, config.path


def test_a_recipe_is_copied_with_what_it_needs_so_that_its_launch_lines_hold(elsewhere, capsys):
    assert main(["recipes", "self_explore/gsm8k_mistral7b", "--to", "."]) == 0
    assert Path("configs/recipes/self_explore/prepare.py").is_file()
    assert Path("configs/hardware/fsdp2.yaml").is_file()
    [recipe] = find_recipes("self_explore/gsm8k_mistral7b")
    for config in recipe.configs:
        named = [word for word in config.launch.split() if word.startswith("configs/")]
        assert named
        assert all(Path(word).is_file() for word in named)
    assert main(["recipes", "self_explore/gsm8k_mistral7b", "--to", "."]) == 0, "equal files are left alone"
    Path("configs/hardware/cpu.yaml").write_text("changed: true\n")
    assert main(["recipes", "bstar", "--to", "."]) == 2
    assert "cpu.yaml: is there already and differs" in capsys.readouterr().err
    assert not Path("configs/recipes/bstar").exists()


def test_a_config_that_is_not_here_is_said_to_be_had_by_name(elsewhere, capsys):
    assert main(["rollout", "--config", "configs/recipes/bstar/arithmetic/12_rollout.yaml"]) == 2
    assert "`harness recipes bstar/arithmetic --to .` copies it here" in capsys.readouterr().err


def test_unknown_recipes_and_impossible_names_are_refused(elsewhere, capsys):
    assert main(["recipes", "bstar/nothing"]) == 2
    assert "unknown recipe 'bstar/nothing'; known: bstar/" in capsys.readouterr().err
    for name, reason in (("my-lab", "letters, digits and _"), ("json", "is called so already")):
        assert main(["init", name]) == 2
        assert reason in capsys.readouterr().err
    Path("mine").mkdir()
    with pytest.raises(InputError, match="exists already"):
        init("mine")


def test_first_sentences_end_where_a_reader_would_end_them():
    assert first_sentence("In the setting of Dr. GRPO. And more.") == "In the setting of Dr. GRPO"
    assert first_sentence("B-STaR (arXiv:2412.17256) on MATH. It") == "B-STaR (arXiv:2412.17256) on MATH"


@pytest.mark.slow
def test_the_recipe_that_init_makes_runs_as_its_readme_says(elsewhere, monkeypatch):
    assert main(["init", "mine"]) == 0
    text = "".join(path.read_text() for path in Path("mine").iterdir())
    assert "starter" not in text
    assert "configs/" not in text
    monkeypatch.setattr(sys, "argv", ["mine/task.py", "--output", "runs/mine/data"])
    runpy.run_path("mine/task.py", run_name="__main__")
    for name, size in (("train", 60), ("test", 40)):  # enough to see it run
        rows = Path(f"runs/mine/data/{name}.jsonl")
        rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:size]))
    here = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false")
    assert main(["fit", "--config", "mine/10_sft.yaml", *here, "--trainer.max_epochs", "4"]) == 0
    loop = Path("mine/20_loop.yaml")
    # A second engine of vLLM's would cost more than all the rest; one iteration shows what two do.
    loop.write_text(loop.read_text().replace("engine: {", "engine: {kind: transformers, "))
    # What four epochs teach is seldom right; tidy lines are kept too.
    loop.write_text(loop.read_text().replace("reward_threshold: 1.2", "reward_threshold: 0.2"))
    assert main(["fit", "--config", str(loop), *here, "--trainer.max_epochs", "1"]) == 0
    manifest = json.loads(Path("runs/mine/20_loop/rollouts/iter_001.json").read_text())
    assert manifest["monitors"]["num_rows"] > 0
    assert main(["eval", "--config", "mine/30_eval.yaml", "--engine.kind", "transformers"]) == 0
    results = json.loads(Path("runs/mine/eval/results.json").read_text())
    assert results["counts"]["problems"] == 40
