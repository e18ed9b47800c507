"""`harness report`: write the page."""

from __future__ import annotations

from pathlib import Path

from harness.errors import InputError


def report(runs: list[Path], output: Path = Path("report.html"), title: str = "", max_problems: int = 200) -> int:
    """Write one HTML page about evaluations, training runs and search trees; it opens from disk and needs no network.

    Args:
        runs: directories of evaluations and of training runs, and files of search trees (the output of
            `harness trees`); those below a directory are found.
        output: the HTML file.
        title: of the page; default is the names of the directories.
        max_problems: problems of each evaluation, and of each file of trees, whose samples are part of the page.
    """
    from harness.report.page import build_page
    from harness.store import write_bytes

    if not runs:
        raise InputError("no run given; name one or several directories.")
    if max_problems < 0:
        raise InputError(f"max_problems is {max_problems}; it must be at least 0.")
    page = build_page(runs, title or ", ".join(path.resolve().name for path in runs), max_problems).encode()
    write_bytes(output, page)
    print(f"{output}: {len(page) / 1e6:.1f} MB")
    return 0
