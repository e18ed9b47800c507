"""What the tests of all families found, written as the table of docs/models.md when HARNESS_WRITE_DOCS is set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.families.zoo import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
COLUMNS = ("packing", "shared prefixes", "reward head", "sync, float32", "sync, bfloat16", "stale refused")
BEGIN, END = "<!-- written by tests/families -->", "<!-- end -->"


@pytest.fixture(scope="session")
def note() -> Iterator[Callable[[str, str, str], None]]:
    """Remember what was found: note(family, column, text)."""
    found: dict[str, dict[str, str]] = {name: {} for name in FAMILIES}

    def remember(family: str, column: str, text: str) -> None:
        found[family][column] = text

    yield remember
    if os.environ.get("HARNESS_WRITE_DOCS"):
        rows = [
            f"| {name} | {' | '.join(cells.get(column, '') for column in COLUMNS)} |" for name, cells in found.items()
        ]
        table = "\n".join([f"| family | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|", *rows])
        page = PAGE.read_text()
        start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
        PAGE.write_text(f"{page[:start]}\n{table}\n{page[end:]}")
