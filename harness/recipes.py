"""The recipes that come with the project: found in a clone and in an installed wheel, listed, copied."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError

HERE = Path(__file__).resolve().parent
LAUNCH, NEEDS = "# Launch: ", "# Needs: "


def configs_folder() -> Path:
    """`configs/`: beside the package in a clone, inside it in a wheel.

    Raises:
        InputError: it is in neither place.
    """
    for folder in (HERE / "configs", HERE.parent / "configs"):
        if (folder / "recipes").is_dir():
            return folder
    raise InputError(f"{HERE}: no configs/ in or beside it; install the project from a wheel or a whole clone.")


@dataclass(frozen=True)
class Config:
    """What the comment at the top of a config file says."""

    path: Path
    about: str
    """In a paragraph."""
    launch: str
    """The command that runs it, from a folder that holds `configs/`."""
    needs: str
    """Files that must be there before; "" is none."""

    @property
    def summary(self) -> str:
        """The first sentence."""
        return first_sentence(self.about)


def read_header(path: Path) -> Config:
    """Read the comment at the top of a config file."""
    about: list[str] = []
    said = {LAUNCH: "", NEEDS: ""}
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        key = next((key for key in said if line.startswith(key)), "")
        if key:
            said[key] = line.removeprefix(key).strip()
        elif not said[LAUNCH]:
            about.append(line.removeprefix("#").strip())
    return Config(path, " ".join(about), said[LAUNCH], said[NEEDS])


@dataclass(frozen=True)
class Recipe:
    """A folder of configs, one a stage or a variant."""

    name: str
    """Its path below `configs/recipes`, such as "bstar/arithmetic"."""
    folder: Path
    configs: tuple[Config, ...]

    @property
    def summary(self) -> str:
        """The title of its README or its family's, or the first sentence of its first config."""
        for folder in (self.folder, self.folder.parent):
            if (readme := folder / "README.md").is_file():
                return readme.read_text().splitlines()[0].removeprefix("# ")
        return self.configs[0].summary


def find_recipes(name: str = "") -> list[Recipe]:
    """All recipes, or those at and below the folder `name` of `configs/recipes`.

    Raises:
        InputError: there is none of that name.
    """
    root = configs_folder() / "recipes"
    folders = sorted({path.parent for path in root.rglob("*.yaml")})
    found = [Recipe(str(f.relative_to(root)), f, tuple(map(read_header, sorted(f.glob("*.yaml"))))) for f in folders]
    kept = [recipe for recipe in found if not name or f"{recipe.name}/".startswith(f"{name.strip('/')}/")]
    if not kept:
        raise InputError(f"unknown recipe '{name}'; known: {', '.join(recipe.name for recipe in found)}.")
    return kept


def files_of(recipe: Recipe) -> list[Path]:
    """The files a recipe needs, below `configs/`: its own, those of the folders around it, overlays, evaluations."""
    root = configs_folder()
    around = [folder for folder in recipe.folder.parents if folder.is_relative_to(root / "recipes")]
    found = [path for folder in (*around, root / "hardware", root / "eval") for path in folder.iterdir()]
    found += recipe.folder.rglob("*")
    return sorted(path.relative_to(root) for path in found if path.is_file() and path.suffix != ".pyc")


def copy_recipes(name: str, target: Path) -> list[Path]:
    """Copy recipes below `target/configs`, so that their launch lines hold in `target`; the files that are there now.

    Raises:
        InputError: a file is there already and differs.
    """
    root = configs_folder()
    files = sorted({file for recipe in find_recipes(name) for file in files_of(recipe)})
    for file in files:
        there = target / "configs" / file
        if there.exists() and there.read_bytes() != (root / file).read_bytes():
            raise InputError(f"{there}: is there already and differs; choose another folder, or move it away.")
    for file in files:
        there = target / "configs" / file
        there.parent.mkdir(parents=True, exist_ok=True)
        if not there.exists():
            shutil.copyfile(root / file, there)
    return [target / "configs" / file for file in files]


def where_to_get(path: Path) -> str:
    """A sentence for a config that is not where it was looked for, though the project has one; "" if it has not."""
    parts = path.parts[path.parts.index("configs") + 1 :] if "configs" in path.parts else ()
    if not parts or not (configs_folder() / Path(*parts)).is_file():
        return ""
    name = "/".join(parts[1:-1]) if parts[0] == "recipes" else "starter"
    return f"{path}: no such file; `harness recipes {name} --to .` copies it here."


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence, without it."""
    return re.split(r"(?<=[\w)%])(?<!Dr)\.(?:\s|$)", text, maxsplit=1)[0]
