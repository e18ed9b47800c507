"""Names of version 0.1 that stay importable: stored `config.yaml` files and users' code name classes by their paths.

An old name gives the new object and one warning that says what to write instead.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES: dict[str, str] = {
    "arithmetic.prepare": "commands.prepare",
    "callbacks.evaluation": "callbacks.held_out_accuracy",
    "checkpoints": "models.checkpoints",
    "commands.completion": "cli.completion",
    "commands.fit": "cli.training",
    "commands.function": "cli.function",
    "commands.list_kind": "cli.list_kind",
    "commands.parser": "cli.parser",
    "commands.training": "cli.training",
    "doctor": "commands.doctor",
    "engines.server": "engines.http",
    "evals.classes": "metrics.answer_classes",
    "evals.command": "commands.evaluate",
    "evals.metrics": "metrics.summary",
    "evals.stats": "metrics.intervals",
    "evals.templates": "prompts.evaluation",
    "grading.command": "commands.grade",
    "grading.pool": "grading.workers",
    "grading.protocols": "grading.answer_protocols",
    "grading.tree": "grading.expression",
    "losses": "models.losses",
    "math_steps": "prompts.math_steps",
    "report.command": "commands.report",
    "reward_head": "models.reward_head",
    "rollouts.balance": "selection.balance",
    "rollouts.batched": "metrics.batched",
    "rollouts.command": "commands.rollout",
    "rollouts.distinct": "selection.distinct",
    "rollouts.diversity": "metrics.diversity",
    "rollouts.estimators": "metrics.estimators",
    "rollouts.explore_command": "commands.explore",
    "rollouts.first_pit": "selection.first_pit",
    "rollouts.keyed_log": "rollouts.log",
    "rollouts.monitors": "metrics.monitors",
    "rollouts.pairs": "selection.outcome_pairs",
    "rollouts.pool": "selection.ranked",
    "rollouts.replay": "commands.replay",
    "rollouts.select": "selection.top_k",
    "rollouts.server": "rollouts.dispatcher",
    "rollouts.step_labels": "selection.step_labels",
    "rollouts.tree_command": "commands.trees",
    "rollouts.tree_rows": "selection.tree_rows",
    "shared_prefix": "models.shared_prefix",
}
"""Modules that have another name now, both without the leading `harness.`; for today's packages see NAMES."""

NAMES: dict[str, dict[str, str]] = {
    "callbacks": {"Evaluation": "callbacks.HeldOutAccuracy"},
    "models": {"*": "models.weights"},
    "prompts": {"*": "prompts.templates", "find_template": "prompts.find.find_template"},
    "rollouts": {
        "*": "",
        "AnswerLine": "selection.AnswerLine",
        "BalancedSampling": "selection.BalancedSampling",
        "DistancePairs": "selection.DistancePairs",
        "DistinctEquations": "selection.DistinctEquations",
        "DistinctTexts": "selection.DistinctTexts",
        "FirstPitPairs": "selection.FirstPitPairs",
        "FixedSampling": "selection.FixedSampling",
        "OutcomePairs": "selection.OutcomePairs",
        "StepLabels": "selection.StepLabels",
        "TopK": "selection.TopK",
    },
}
"""Attributes that have another name now; "*" is all others, which keep their name and are in the module given."""


RENAMED: dict[str, dict[str, str]] = {
    "callbacks.evaluation": {"Evaluation": "HeldOutAccuracy"},
    "rollouts.server": {"Server": "Dispatcher"},
}
"""What moved modules called their classes; they have the old names too once they were imported under the old one."""


def warn(old: str, new: str) -> None:
    warnings.warn(f"harness.{old} is now harness.{new}; the old name goes away one day.", FutureWarning, stacklevel=3)


def moved_attribute(module: str, name: str) -> Any:
    """The attribute that a module's `__getattr__` was asked for, from where it is now."""
    old = module.removeprefix("harness.")
    names = NAMES[old]
    home = names.get("*", "")
    new = names.get(name) or (f"{home}.{name}" if home and not name.startswith("__") else "")
    if new:
        source, _, attribute = new.rpartition(".")
        found = importlib.import_module(f"harness.{source}")
        if hasattr(found, attribute):
            warn(f"{old}.{name}", new)
            return getattr(found, attribute)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


class MovedModules(MetaPathFinder, Loader):
    """Finds the modules of `MODULES` under their old names, after all other finders."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        old = name.removeprefix("harness.")
        return ModuleSpec(name, self) if name.startswith("harness.") and old in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        old = spec.name.removeprefix("harness.")
        module = importlib.import_module(f"harness.{MODULES[old]}")
        warn(old, MODULES[old])
        for before, now in RENAMED.get(old, {}).items():
            setattr(module, before, getattr(module, now))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has put the old name's spec on the module, which has its own.
        spec = module.__spec__
        module.__spec__ = spec.loader_state if spec else None


def keep_old_names() -> None:
    """Let `import` find the old names."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
