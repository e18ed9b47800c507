"""The layers of the package: a module imports only from layers below its own."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "harness"

WORDS = ("types", "protocols", "errors", "environment", "interrupts")
TEXT = (
    "store",
    "lines",
    "streams",
    "provenance",
    "locks",
    "moved",
    "prompts",
    "problems",
    "sources",
    "progress",
    "recipes",
    "grading",
    "sandbox",
    "arithmetic.problems",
    "arithmetic.code",
)
TENSORS = ("models", "objectives", "arithmetic.model")
POWERS = ("engines", "rewards")
# Package or module -> what it may import of the package besides itself. The longest name that fits counts.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(WORDS, WORDS),
    "moved": (),
    **dict.fromkeys((name for name in TEXT if name != "moved"), (*WORDS, *TEXT)),
    **dict.fromkeys(TENSORS, (*WORDS, "moved", "store", *TENSORS, "arithmetic.problems", "arithmetic.code")),
    "arithmetic": (*WORDS, *TEXT, *TENSORS),
    "ranks": WORDS,
    "engines": (*WORDS, *TEXT, *TENSORS),
    "rewards": (*WORDS, *TEXT, *TENSORS, "arithmetic"),
    "artifacts": (*WORDS, *TEXT),
    "search": ("types", "protocols"),
    "metrics": (*WORDS, *TEXT),
    "rollouts": (*WORDS, *TEXT, *TENSORS, *POWERS, "ranks", "search", "arithmetic", "metrics"),
    "selection": (*WORDS, *TEXT, "objectives", "search", "metrics", "rollouts"),
    "modules": (*WORDS, *TEXT, *TENSORS),
    "ledger": (*WORDS, *TEXT, *TENSORS, "engines", "modules"),
    "datamodules": (*WORDS, *TEXT, *TENSORS),
    "evals": (*WORDS, *TEXT, *TENSORS, *POWERS, "artifacts", "search", "arithmetic", "metrics", "rollouts"),
    "report": (*WORDS, *TEXT, "metrics", "rollouts", "evals"),
    "strategies": (*WORDS, *TEXT),
    "imports": (),
    "rundir": (*WORDS, *TEXT),
    "stages": (*WORDS, *TEXT),
    "loggers": (*WORDS, *TEXT, "rundir"),
    "integrations": (*WORDS, *TEXT),
}
EVERYTHING = ("callbacks", "cli", "commands", "__main__", "")
HEAVY = ("torch", "transformers", "lightning", "vllm", "datasets", "peft", "wandb", "jsonargparse")
# Package or module -> packages outside the project that it must not import, even inside a function.
MUST_NOT_IMPORT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(TEXT, HEAVY),
    "sources": tuple(set(HEAVY) - {"datasets"}),
    "integrations": HEAVY,
    "ranks": HEAVY,
    "search": HEAVY,
    "metrics": HEAVY,
    "engines": ("lightning", "jsonargparse"),
    "rewards": ("lightning", "jsonargparse"),
    "rollouts": ("lightning", "jsonargparse"),
    "selection": ("lightning", "jsonargparse"),
    "evals": ("lightning", "jsonargparse"),
    "report": HEAVY,
    "models": ("lightning", "vllm"),
    "models.losses": ("lightning", "transformers"),
    "objectives": ("transformers", "lightning", "vllm", "jsonargparse"),
    "objectives.credit": HEAVY,
    "models.checkpoints": ("torch", "lightning", "vllm"),
    "modules": ("vllm",),
    "datamodules": ("vllm",),
}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imports(path: Path, module: str) -> Iterator[str]:
    """Absolute names of all modules that a file imports, anywhere in it."""
    package = ["harness", *module.split(".")] if path.name == "__init__.py" else ["harness", *module.split(".")[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [part for part in package if part][: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{source}.{alias.name}".removeprefix("harness.")
                yield f"harness.{inner}" if source.split(".")[0] == "harness" and inner in MODULES else source


def place(module: str, table: dict[str, tuple[str, ...]]) -> str | None:
    """The longest entry of the table that is the module or holds it."""
    names = [name for name in table if within(module, name)]
    return max(names, key=len, default=None)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_the_layers_below_its_own(module):
    if module.split(".")[0] in EVERYTHING:
        return
    layer = place(module, MAY_IMPORT)
    assert layer is not None, f"harness.{module} has no place in the layers; give it one in this file"
    allowed = (layer, *MAY_IMPORT[layer])
    ours = {
        name.removeprefix("harness").removeprefix(".")
        for name in imports(MODULES[module], module)
        if name.split(".")[0] == "harness"
    }
    strangers = {name for name in ours if name and not any(within(name, package) for package in allowed)}
    assert not strangers, f"harness.{module} must not know {sorted(strangers)}"


def test_no_rooms_import_one_another_in_a_circle():
    rooms = {module.split(".")[0] for module in MODULES} - {""}
    imported: dict[str, set[str]] = {room: set() for room in rooms}
    for module, path in MODULES.items():
        names = (name.removeprefix("harness.").split(".")[0] for name in imports(path, module))
        imported.get(module.split(".")[0], set()).update(name for name in names if name in rooms)
    for room in rooms:
        imported[room].discard(room)
    assert imported["cli"]
    assert imported["commands"]
    while lowest := [room for room in imported if not imported[room] & imported.keys()]:
        for room in lowest:
            del imported[room]
    assert not imported, f"a circle among {sorted(imported)}"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_keeps_clear_of_packages_above_its_layer(module):
    roots = {name.split(".")[0] for name in imports(MODULES[module], module)} - {"harness"}
    if module in WORDS:
        assert roots <= sys.stdlib_module_names
    entry = place(module, MUST_NOT_IMPORT)
    assert entry is None or not roots & set(MUST_NOT_IMPORT[entry])


@pytest.mark.parametrize("module", ["cli", "cli.main", "cli.command", "__main__", "commands", "moved", ""])
def test_the_door_imports_nothing_heavy_at_the_top(module):
    top = [
        node for node in ast.parse(MODULES[module].read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
    light = {
        "harness",
        "harness.cli.main",
        "harness.cli.command",
        "harness.environment",
        "harness.errors",
        "harness.interrupts",
        "harness.moved",
    }
    assert all(name in light or name.split(".")[0] in sys.stdlib_module_names for name in names)


def test_the_reader_of_imports_sees_every_form(tmp_path):
    source = tmp_path / "x.py"
    source.write_text(
        "import a.b\nfrom harness import types\nfrom . import store\ndef f():\n    from .errors import E\n"
    )
    assert set(imports(source, "x")) == {"a.b", "harness.types", "harness.store", "harness.errors"}
