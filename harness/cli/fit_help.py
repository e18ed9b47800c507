"""The help of `harness fit` and Lightning's other three verbs, written without importing what it describes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

HOME = Path(__file__).parents[1]
SECTIONS = {
    "modules": "--model NAME, arguments --model.KEY VALUE; --model.help NAME lists them",
    "datamodules": "--data NAME, arguments --data.KEY VALUE; --data.help NAME lists them",
    "callbacks": "--trainer.callbacks+ NAME, arguments --trainer.callbacks.KEY VALUE; --trainer.callbacks.help NAME",
}
"""Package of each kind, and how one is given."""


def describe_fit(verb: str, summary: str) -> str:
    """What `harness VERB --help` prints: how to call it, and what can be named, with one line each."""
    lines = [
        f"usage: harness {verb} --config FILE [--config FILE ...] [--KEY VALUE ...]",
        "",
        summary,
        "A file names model, data, trainer and their arguments; options win over files, later files over earlier ones.",
        "",
        "options:",
        "  --config FILE             YAML; `harness recipes` lists those that come with the project",
        f"  --run_dir DIR             for everything that the run leaves (default: runs/{verb})",
        "  --ckpt_path last | FILE   go on from a checkpoint",
        "  --seed_everything N       seed of the run (default: 0)",
        "  --trainer.KEY VALUE       of Lightning's Trainer: max_epochs, max_steps, devices, precision, strategy, ...",
        "  --print_config            print the whole configuration instead of running it",
        "  --help_all                all options, those of the Trainer too",
    ]
    for kind, how in SECTIONS.items():
        rows = dict(classes(HOME / kind))
        rows |= {point.name: f"({point.value})" for point in entry_points(group=f"harness.{kind}")}
        width = max(map(len, rows))
        lines += ["", f"{kind} ({how}):", *(f"  {name:<{width}}  {text}".rstrip() for name, text in rows.items())]
    return "\n".join(lines)


def classes(package: Path) -> Iterator[tuple[str, str]]:
    """(name, first sentence of its docstring) of each class with a base class that a package exports."""
    for statement in ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body:
        if not isinstance(statement, ast.ImportFrom) or not (statement.module or "").startswith(
            f"harness.{package.name}."
        ):
            continue
        file = package / f"{(statement.module or '').rpartition('.')[2]}.py"
        exported = {alias.name for alias in statement.names}
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in exported and node.bases:
                text = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
                yield node.name, text.partition(". ")[0].rstrip(".:")
