"""`harness recipes`: list the recipes that come with the project, and copy them."""

from __future__ import annotations

from pathlib import Path

from harness.recipes import copy_recipes, find_recipes


def recipes(name: str = "", to: Path | None = None) -> int:
    """List the recipes with one line each, or the stages of one; or copy recipes to a folder of yours.

    Args:
        name: a recipe, such as `bstar/arithmetic`, or a family, such as `bstar`; default is all.
        to: copy them below this folder's `configs/`, with overlays and evaluations, so that the launch lines in their
            headers hold in that folder. A file that is there already is kept, and refused if it differs.
    """
    if to is not None:
        files = copy_recipes(name, to)
        print(f"{to / 'configs'}: {len(files)} files; each config's header says how it is launched from {to.resolve()}")
        return 0
    found = find_recipes(name)
    if name and len(found) == 1:
        print(f"{found[0].name}: {found[0].summary}\n")
        for config in found[0].configs:
            print(f"{config.path.name}\n    {config.summary}\n    {config.launch}")
        print(f"\n`harness recipes {found[0].name} --to .` copies them here.")
        return 0
    width = max(len(recipe.name) for recipe in found)
    for recipe in found:
        print(f"{recipe.name:<{width}}  {recipe.summary}")
    return 0
