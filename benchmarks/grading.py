"""Score graders on labelled pairs: accuracy, false accepts and rejects, crashes, time-outs, speed.

    python benchmarks/grading.py                          # the labelled pairs, one core, beside math-verify
    python benchmarks/grading.py --file cases.jsonl --only ours
    python benchmarks/grading.py --file HOSTILE           # the battery of hostile answers in tests/grading

Rows hold id, gold, pred, label, source and kind: "pair" for two bare answers, "text" for a whole response. Rows with
`debatable` are left out. Every grader runs on the same rows with its default settings, one case after another on one
core. math-verify keeps its own time-outs (5 s for parsing, 5 s for comparing, by SIGALRM). Ours has no clock: it counts
operations, and gives computer algebra 0.4 s of processor time on a pair; what exceeds either is its "time-out". Beside
the cases a second by the clock stand those a second of this process's processor time, which other work on the machine
does not change (computer algebra in a worker process is in the former only).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("HARNESS_DATA_DIR", ROOT.parent / "shared" / "data"))
DEADLINE = 5.0
"""Seconds by the clock after which a case of either grader counts as a time-out and as "not equal"."""


@dataclass
class Score:
    """The counts of one grader on one set."""

    name: str
    right: int = 0
    false_accepts: list[str] = field(default_factory=list)
    false_rejects: list[str] = field(default_factory=list)
    crashes: int = 0
    timeouts: int = 0
    seconds: list[float] = field(default_factory=list)
    processor_seconds: float = 0.0


def ours(kind: str, gold: str, pred: str) -> tuple[bool, bool]:
    """Our verdict with default settings, and whether it was a time-out."""
    from harness.grading import grade, is_equivalent

    if kind == "pair":
        return is_equivalent(gold, pred), False
    verdict = grade(pred, gold)
    return verdict.correct, verdict.status == "timeout"


def math_verify(kind: str, gold: str, pred: str) -> tuple[bool, bool]:
    """math-verify as its README uses it; bare answers are offered as formulas too."""
    from math_verify import parse, verify

    def wrapped(text: str) -> str:
        return text if "$" in text or "boxed" in text else f"${text}$"

    gold_parsed = parse(wrapped(gold)) or parse(gold)
    pred_parsed = parse(pred if kind == "text" else wrapped(pred)) or parse(pred)
    return bool(verify(gold_parsed, pred_parsed)), False


GRADERS: dict[str, Callable[[str, str, str], tuple[bool, bool]]] = {"ours": ours, "math-verify": math_verify}


def score(name: str, rows: list[dict]) -> Score:
    """Run one grader over all rows."""
    grader, result = GRADERS[name], Score(name)
    grader("pair", r"\sqrt{2}", "2^{1/2}")  # imports are not part of a case
    forget()
    for row in rows:
        start, used = time.perf_counter(), time.process_time()
        try:
            same, overran = grader(row["kind"], row["gold"], row["pred"])
        except Exception as error:
            same, overran = False, False
            result.crashes += 1
            print(f"{name} crashed on {row['id']}: {error!r}", file=sys.stderr)
        taken = time.perf_counter() - start
        result.processor_seconds += time.process_time() - used
        result.seconds.append(taken)
        overran = overran or taken > DEADLINE
        result.timeouts += overran
        same = same and not overran
        result.right += same == row["label"]
        if same != row["label"]:
            (result.false_accepts if same else result.false_rejects).append(row["id"])
    return result


def forget() -> None:
    """Empty our caches, so that no set profits from another."""
    for name, module in list(sys.modules.items()):
        if name.startswith("harness.grading"):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def hostile_rows() -> list[dict]:
    """The hostile answers of the tests as cases that must all be rejected."""
    sys.path.insert(0, str(ROOT / "tests" / "grading"))
    from hostile import BOMBS, INJECTIONS

    return [
        {"id": f"hostile-{i}", "gold": gold, "pred": text, "label": False, "kind": kind}
        for i, text in enumerate(BOMBS + INJECTIONS)
        for gold, kind in (("x+1", "pair"), (r"\frac{1}{3}", "text"))
    ]


def table(rows: list[dict], scores: list[Score]) -> str:
    """The results as a Markdown table."""
    positives = sum(row["label"] for row in rows)
    negatives = len(rows) - positives
    lines = [
        f"{len(rows)} cases, {positives} equal and {negatives} different",
        "",
        "| grader | right | false accepts | false rejects | crashes | time-outs "
        "| cases/s | cases/CPU s | p99 | slowest |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for s in scores:
        ordered = sorted(s.seconds)
        p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        accepts, rejects = len(s.false_accepts), len(s.false_rejects)
        lines.append(
            f"| {s.name} | {100 * s.right / len(rows):.1f} % | {accepts} ({100 * accepts / max(1, negatives):.1f} %) | "
            f"{rejects} ({100 * rejects / max(1, positives):.1f} %) | {s.crashes} | {s.timeouts} | "
            f"{len(rows) / sum(ordered):.0f} | {len(rows) / s.processor_seconds:.0f} | "
            f"{1000 * p99:.1f} ms | {ordered[-1]:.2f} s |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", default=str(DATA / "grader_cases_dev.jsonl"), help="labelled cases, or HOSTILE")
    parser.add_argument("--only", choices=sorted(GRADERS), help="run one grader")
    parser.add_argument("--errors", action="store_true", help="print the ids of the cases graded wrongly")
    parser.add_argument("--cores", type=int, default=1, help="cores this process may use")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    logging.disable(logging.CRITICAL)
    if args.file == "HOSTILE":
        sets = {"hostile answers": hostile_rows()}
    else:
        rows = [json.loads(line) for line in Path(args.file).read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if not row.get("debatable")]
        real = [
            r for r in rows if r["kind"] == "text" and str(r.get("source", "")).startswith(("grade-school", "qwen2.5"))
        ]
        sets = {"labelled pairs": rows} | ({"real responses": real} if real else {})
    for name, rows in sets.items():
        scores = [score(grader, rows) for grader in GRADERS if args.only in (None, grader)]
        print(f"\n{name}: {table(rows, scores)}")
        if args.errors:
            for s in scores:
                print(f"{s.name}: accepted {s.false_accepts}; rejected {s.false_rejects}")


if __name__ == "__main__":
    main()
