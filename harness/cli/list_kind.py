"""`harness list`: the classes and data that options can name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

from harness.errors import InputError


def list_kind(kind: str) -> int:
    """List what can be named in options, with one line each: the project's own, and what installed packages add.

    Args:
        kind: modules, datamodules, callbacks, rewards, searches, tree_searches, schedulers, selectors, templates,
            tasks, protocols, graders or losses.
    """
    rows = list(entries(kind))
    width = max(len(name) for name, _ in rows)
    for name, summary in rows:
        print(f"{name:<{width}}  {summary}".rstrip())
    return 0


def entries(kind: str) -> Iterator[tuple[str, str]]:
    """(name, one line) of everything of a kind."""
    from harness.cli.names import KINDS

    if kind in KINDS:
        for name, path in sorted(KINDS[kind].names().items()):
            module, _, attribute = path.rpartition(".")
            yield name, _first_sentence(inspect.getdoc(getattr(importlib.import_module(module), attribute)))
    elif kind == "templates":
        from harness.prompts.find import known_templates

        for name, template in known_templates().items():
            asked = " ".join((template.system + " " + template.user).split())
            yield name, f"{'chat: ' if template.chat else ''}{asked[:90]}{'...' if len(asked) > 90 else ''}"
    elif kind == "tasks":
        from harness.evals.task import shipped_tasks

        yield from ((task.name, task.description) for task in shipped_tasks().values())
    elif kind == "protocols":
        from harness.grading import PROTOCOLS

        yield from ((name, ", ".join(rule.kind for rule in found.rules)) for name, found in PROTOCOLS.items())
    elif kind == "graders":
        from harness.grading import GRADERS

        yield from ((name, grader.label) for name, grader in GRADERS.items())
    elif kind == "losses":
        from harness.models.losses import PREFERENCE_LOSSES

        yield from ((name, _first_sentence(inspect.getdoc(loss))) for name, loss in PREFERENCE_LOSSES.items())
    else:
        further = ("templates", "tasks", "protocols", "graders", "losses")
        raise InputError(f"unknown kind '{kind}'; known: {', '.join([*KINDS, *further])}.")


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").partition("\n\n")[0].split())
