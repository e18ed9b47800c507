"""The last words of `harness eval`: one table of all tasks, what to know of its numbers, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.evals.compare import describe_limit

NOTABLE = 0.02
"""Share of samples from which on something that lowers a number is told."""


def closing_words(done: Sequence[tuple[Mapping[str, Any], Path]]) -> str:
    """A table where there are several tasks, a line for each thing to know of the numbers, and the next command."""
    lines: list[str] = []
    if len(done) > 1:
        lines += ["", *overview([results for results, _ in done])]
    for results, _ in done:
        lines += [f"{results['task']}: {caveat}" for caveat in caveats(results)]
    parents = list(dict.fromkeys(str(folder) if len(done) == 1 else str(folder.parent) for _, folder in done))
    lines.append(f"look at it: harness report {' '.join(parents)} --output report.html")
    return "\n".join(lines)


def overview(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each task: its first metric with its interval, and how many problems and samples it is of."""
    rows = [("task", "metric", "value", "95 % interval", "problems", "samples", "truncated")]
    for each in results:
        counts = each["counts"]
        name = "first" if "first" in each["metrics"] else "accuracy"
        metric = each["metrics"][name]
        interval = f"[{_shown(metric['low'])}, {_shown(metric['high'])}]"
        limit = each["limit"]
        problems = f"{counts['problems']} of {limit['of']}" if limit else str(counts["problems"])
        truncated = f"{counts['truncated'] / max(counts['samples'], 1):.1%}"
        samples = str(counts["samples"])
        rows.append((each["task"], name, _shown(metric["value"]), interval, problems, samples, truncated))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def caveats(results: Mapping[str, Any]) -> Iterator[str]:
    """Why a number is not what it seems, each with the remedy."""
    counts, sampling = results["counts"], results["sampling"]
    samples = max(counts["samples"], 1)
    if (until := results.get("until")) and not until["reached"]:
        yield (
            f"all {until['problems']} problems leave a half width of {until['half_width']:.4f}, not {until['rule']} as "
            "asked; where drawing samples makes much of the variance a larger --n helps, else only more problems."
        )
    limit = describe_limit(results)
    if limit and not until:
        yield f"{limit}; leave out {'--samples' if 'ids' in results['limit'] else '--limit'} for the whole."
    if counts["too_long"]:
        whole = counts["problems"] + counts["too_long"]
        yield (
            f"{counts['too_long']} of {whole} prompts did not fit into the context and are left out of all numbers; "
            "choose a shorter --protocol or a larger model."
        )
    if counts["truncated"] >= NOTABLE * samples:
        share = f"{counts['truncated'] / samples:.0%} of the responses were cut off at {sampling['max_tokens']} tokens"
        thinking = f", {counts['truncated_thoughts'] / samples:.0%} while thinking" * bool(counts["truncated_thoughts"])
        budget = ", or end thoughts with --thinking_budget" * bool(counts["truncated_thoughts"])
        yield f"{share}{thinking} (or where the context ended); raise --max_tokens{budget}."
    if counts["no_answer"] - counts["truncated"] >= NOTABLE * samples:
        share = f"{counts['no_answer'] / samples:.0%}"
        yield f"{share} of the responses state no answer in the form that the protocol reads; see --protocol."
    if counts["timeout"]:
        yield f"{counts['timeout']} answers took the grader too long and count as wrong."


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
