"""`harness init`: a recipe to begin your own with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from harness.errors import InputError
from harness.recipes import configs_folder
from harness.store import write_bytes

STARTER = "starter"


def init(name: str) -> int:
    """Make a folder with a recipe of your own that runs: a task, a reward, configs, a README.

    Args:
        name: of the folder, made in the current one; also the name of a Python package, so letters, digits and `_`.
    """
    target = Path(name)
    if not name.isidentifier():
        raise InputError(f"name '{name}': take letters, digits and _, since Python imports the folder by this name.")
    if target.exists():
        raise InputError(f"{target}: exists already; choose another name.")
    if importlib.util.find_spec(name) is not None:
        raise InputError(f"name '{name}': a Python module is called so already; choose another name.")
    source = configs_folder() / "recipes" / STARTER
    for path in sorted(path for path in source.iterdir() if path.is_file()):
        text = path.read_text().replace(f"configs/recipes/{STARTER}", name).replace(f"runs/{STARTER}", f"runs/{name}")
        write_bytes(target / path.name, text.encode())
    print(f"{target}: a recipe that runs; {target / 'README.md'} says how.\n    python {target / 'task.py'}")
    return 0
