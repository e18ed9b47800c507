"""Pages of the docs site that are made of other files: a hook of mkdocs.yml, run by `mkdocs build`.

The README is the front page, the gallery of recipes comes from the headers of the configs (as `harness recipes` does),
the examples are shown as they are, and each package has a page of its docstrings.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from harness.recipes import Recipe, find_recipes  # noqa: E402

MOVED = {"README.md": "index.md", "PAPERS.md": "papers.md", "CHANGELOG.md": "changelog.md"}
MOVED |= {"CONTRIBUTING.md": "contributing.md"}
"""Files at the top of the repository, and the pages they become."""
LIST_ITEM = re.compile(r"(?<=\n)(?![-*\d#|>\s])([^\n]*\S[^\n]*)\n(?=(?:- |\d+\. )\S)")
"""A line of text right above a list, which only GitHub's Markdown ends there."""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    pages = {page: top_file(name) for name, page in MOVED.items()}
    pages |= {"recipes.md": gallery(), "examples.md": examples()}
    for entry in config.nav:
        if isinstance(entry, dict) and "API" in entry:
            pages |= {page: reference(Path(page).stem) for page in entry["API"]}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links out of docs/ at the pages made of those files, and let lists begin below text."""
    markdown = re.sub(r"\]\(\.\./examples/([\w.]+)\)", lambda match: f"](examples.md#{anchor(match[1])})", markdown)
    markdown = markdown.replace("](../examples)", "](examples.md)")
    markdown = re.sub(r"\]\(\.\./configs/recipes/([\w/]+)/README\.md\)", r"](recipes.md#\1)", markdown)
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else LIST_ITEM.sub(r"\1\n\n", part) for part in parts)


def top_file(name: str) -> str:
    """A file from the top of the repository with its links as seen from docs/."""
    text = (ROOT / name).read_text().replace("](docs/", "](")
    for source, page in MOVED.items():
        text = text.replace(f"]({source})", f"]({page})")
    return text


def anchor(name: str) -> str:
    """The anchor that the table of contents gives a heading of code."""
    return re.sub(r"[^\w-]", "", name.lower())


def gallery() -> str:
    """All recipes, each config with its header: what it is, what it needs, how it is launched."""
    lines = [
        "# Recipes",
        "",
        "What `harness recipes` lists, made of the header of each config. `harness recipes NAME --to .` copies one to "
        "the current folder, from a clone or an installed wheel.",
        "",
        "| recipe | what |",
        "|---|---|",
        *(f"| [{recipe.name}](#{recipe.name}) | {recipe.summary} |" for recipe in find_recipes()),
    ]
    family = ""
    for recipe in find_recipes():
        first = recipe.name.split("/")[0]
        if first != family and first != recipe.name:
            lines += ["", f'<span id="{first}"></span>']
        family = first
        lines += ["", *describe(recipe)]
    return "\n".join(lines) + "\n"


def describe(recipe: Recipe) -> list[str]:
    """One recipe's part of the gallery."""
    lines = [f"## {recipe.name} {{ #{recipe.name} }}", "", f"{recipe.summary}."]
    for config in recipe.configs:
        needs = f" Needs {config.needs}." if config.needs else ""
        lines += ["", f"**{config.path.name}**: {config.about}{needs}", "", "```bash", config.launch, "```"]
    return lines


def examples() -> str:
    """The files of examples/ as they are."""
    lines = ["# Examples", "", "The files that [Extending harness](extending.md) speaks of, as they are.", ""]
    for path in sorted((ROOT / "examples").iterdir()):
        if path.is_file():
            kind = {".py": "python", ".yaml": "yaml"}.get(path.suffix, "json")
            lines += [
                f"## {path.name} {{ #{anchor(path.name)} }}",
                "",
                f"```{kind}",
                path.read_text().rstrip(),
                "```",
                "",
            ]
    return "\n".join(lines)


def reference(package: str) -> str:
    """The page of a package's public names, or of its modules where it lists no names."""
    folder = ROOT / "harness" / package
    text = f"# harness.{package}\n\n::: harness.{package}\n"
    if folder.is_dir() and "__all__" not in (folder / "__init__.py").read_text():
        modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
        text += "".join(f"\n## {package}.{module}\n\n::: harness.{package}.{module}\n" for module in modules)
    return text
