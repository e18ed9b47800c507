"""`harness report`: write the page; `harness runs`: list what there is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.errors import InputError

if TYPE_CHECKING:
    from harness.report.page import PageConfig


def report(
    runs: list[Path],
    output: Path = Path("report.html"),
    title: str = "",
    max_problems: int | None = None,
    iteration_problems: int = 25,
    pick: Literal["random", "hardest", "first"] = "random",
    seed: int = 0,
    watch: bool = False,
    every: float = 10.0,
) -> int:
    """Write one HTML page about evaluations, training runs and search trees; it opens from disk and needs no network.

    Args:
        runs: directories of evaluations and of training runs, and files of search trees (the output of
            `harness trees`); those below a directory are found.
        output: the HTML file.
        title: of the page; default is the names of the directories.
        max_problems: problems of each evaluation, and of each file of trees, whose samples are part of the page;
            default is all of them.
        iteration_problems: problems of each iteration of a training run whose samples are part of the page.
        pick: which problems, where not all: random ones (the same of every run), the hardest (fewest right
            responses) or the first.
        seed: of the random choice.
        watch: write the page again whenever the runs have changed, until Ctrl-C; the open page follows.
        every: seconds between two looks at the runs, with --watch.
    """
    from harness.report.blocks import Choice
    from harness.report.page import PageConfig, write_page

    if not runs:
        raise InputError("no run given; name one or several directories.")
    for name, value in (("max_problems", max_problems), ("iteration_problems", iteration_problems)):
        if value is not None and value < 0:
            raise InputError(f"{name} is {value}; it must be at least 0.")
    if every <= 0:
        raise InputError(f"every is {every:g}; it must be more than 0 seconds.")
    config = PageConfig(
        title or ", ".join(path.resolve().name for path in runs),
        Choice(max_problems, pick, seed),
        Choice(iteration_problems, pick, seed),
        every if watch else 0.0,
    )
    if watch:
        return _watch(runs, output, config)
    print(f"{output}: {write_page(runs, output, config) / 1e6:.1f} MB")
    return 0


def _watch(runs: Sequence[Path], output: Path, config: PageConfig) -> int:
    """Write the page whenever a file of the runs has changed; what cannot be read yet is said once and tried again."""
    from harness.report.page import write_page
    from harness.report.runs import state_of

    before, said = None, ""
    print(f"{output}: follows {', '.join(map(str, runs))} until Ctrl-C", flush=True)
    try:
        while True:
            if (now := state_of(runs, output)) != before:
                try:
                    sentence = (
                        f"{output}: {write_page(runs, output, config) / 1e6:.1f} MB at {time.strftime('%H:%M:%S')}"
                    )
                    before = now
                except InputError as error:  # a run that begins, or a file that is being written
                    sentence = f"waiting: {error}"
                if sentence != said:
                    print(sentence, flush=True)
                said = sentence
            time.sleep(config.refresh)
    except KeyboardInterrupt:
        return 0


def list_runs(folder: Path = Path("runs"), output: Path | None = None) -> int:
    """List the training runs, evaluations and search trees below a folder, each under the run it was made from.

    Args:
        folder: where to look.
        output: JSON file to write the list to as well.
    """
    from harness.report.lineage import depth_of, lineage
    from harness.report.runs import find_runs, names_of
    from harness.store import write_json

    found = find_runs([folder])
    runs = lineage(found, names_of(found, [folder]))
    rows = [("run", "kind", "when (UTC)", "from", "data", "how far", "result")]
    for run in runs:
        depth = depth_of(run, runs)
        data = ", ".join(f"{Path(name).name} {digest}".strip() for name, digest in run.data.items())
        when = run.when.replace("T", " ")[:16]
        rows.append(("  " * depth + run.name, run.kind, when, run.model or "-", data or "-", run.state, run.result))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if output is not None:
        write_json(output, {"runs": [asdict(run) for run in runs]})
    return 0
