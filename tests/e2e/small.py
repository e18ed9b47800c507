"""B-STaR's shipped recipe made small, which tests kill, spread over ranks, or sample beside its training."""

import yaml

from tests.paths import ROOT

RECIPE = ROOT / "configs/recipes/bstar/arithmetic/20_bstar.yaml"
NUM_PROBLEMS = 12
"""Training problems of an iteration."""


def small_bstar(folder, data, num_steps=3, num_iterations=2):
    """The recipe with a random model, few problems, and thresholds below the rewards of random responses."""
    config = yaml.safe_load(RECIPE.read_text().replace("runs/arithmetic/data", str(data)))
    config["run_dir"] = str(folder / "run")
    config["model"]["init_args"]["checkpoint"] = str(data / "base")
    config["model"]["init_args"]["optimizer"]["cycle_steps"] = num_steps
    config["data"]["init_args"] |= {"batch_size": 4, "batches_per_epoch": num_steps}
    config["trainer"] |= {
        "max_epochs": num_iterations, "accelerator": "cpu", "precision": "32-true", "log_every_n_steps": 1,
        "enable_model_summary": False,
    }  # fmt: skip
    rollout = config["trainer"]["callbacks"][1]["init_args"]
    rollout |= {"problems_per_iteration": NUM_PROBLEMS, "replay_share": 0.0}
    rollout["scheduler"]["init_args"] |= {
        "sampling": {"n": 2, "max_tokens": 8}, "temperatures": [0.5, 1.0], "thresholds": [-2.0, -1.0],
        "n_star": 1, "keep_cut": True, "keep_unanswered": True, "correct_above": -1.0,
    }  # fmt: skip
    return config
