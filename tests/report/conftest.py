"""Two small runs: an evaluation of several samples, and a training run of two iterations."""

from __future__ import annotations

import json

import pytest

from harness.evals.run import run
from harness.rewards.steps import ArithmeticSteps
from harness.search.tree import SearchTree, TreeNode
from harness.store import to_json, write_rows
from harness.types import Problem, Response, Rollout, ScoredResponse
from tests.evals.conftest import ScriptedEngine, build_byte_tokenizer
from tests.evals.test_run import evaluation, served


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder with the evaluation `eval` and the training run `train`."""
    folder = tmp_path_factory.mktemp("runs")
    tokenizer = build_byte_tokenizer()

    def answer(prompt, seed):
        number = int(tokenizer.decode(prompt).split(" ")[0])
        if number == 5:
            return "no marker </script><img src=x onerror=alert(1)>"
        return f"first $x^2 + \\frac{{1}}{{2}}$ step\n#### {number + (1 if seed % 2 else 7)}"

    problems = tuple(
        Problem(f"sum/{i}", f"{i} + 1", str(i + 1), solution=f"so {i + 1}", level=str(i % 3)) for i in range(12)
    )
    engine = ScriptedEngine(tokenizer, answer)
    asked = evaluation(problems, n=4, k=(1, 4), reward=ArithmeticSteps(), budgets=(8, 30, 64))
    run(asked, served(engine, tokenizer), folder / "eval", {})
    write_training(folder / "train")
    write_trees(folder / "trees.jsonl")
    return folder


def write_trees(path) -> None:
    """Two trees over one problem; a step of the first leads to a right and a wrong answer, another is a dead end."""
    nodes = (
        TreeNode(visit_count=4, value_sum=1.0),
        TreeNode(0, "12 + 2\nso $\\frac{28}{2}$\n", "open", 3, 1.5, 0.5, token_ids=(1, 2)),
        TreeNode(0, "print(1 / 0)\n", "error", 1, -1.0, -1.0, failed=True, error="ZeroDivisionError"),
        TreeNode(1, "#### 14", "answered", 1, 1.0, 1.0, correct=True, answer="14", token_ids=(3,)),
        TreeNode(1, "#### <b>13</b>", "answered", 1, 0.0, 0.0, answer="13", token_ids=(4,)),
    )
    problem = Problem("grown", "3 * 4 + 2", "14", level="2")
    write_rows(path, [SearchTree(problem, nodes), SearchTree(problem, nodes[:3], index=1)])


def write_training(folder) -> None:
    rollouts = folder / "rollouts"
    rollouts.mkdir(parents=True)
    lines = ["iteration,step,eval/accuracy,eval/accuracy_low,eval/accuracy_high,rollout/wrong_share,train/loss"]
    for i in (1, 2):
        lines += [f"{i},{10 * i},{0.3 + 0.1 * i},{0.2 + 0.1 * i},{0.4 + 0.1 * i},{0.2 / i},", f",{10 * i},,,,,{1 / i}"]
        decision = {
            "iteration": i,
            "decision": {
                "temperatures": [0.6, 1.0],
                "thresholds": [0.0, 0.5, 1.0],
                "balance_scores": [[0.1, 0.2, 0.1], [0.15, 0.3 + i / 10, 0.2]],
                "chosen": {"temperature": 1.0, "threshold": 0.5},
                "balance_score": 0.3 + i / 10,
            },
            "monitors": {"accuracy": 0.3 * i, "entropy": float("nan")},
        }
        (rollouts / f"iter_{i:03d}.json").write_text(json.dumps(decision))
        rows = [
            Rollout(
                Problem(f"p{j}", "3 * 4 + 2", "14"),
                tuple(
                    ScoredResponse(
                        Response(
                            ("12 + 2\n", f"#### {14 if k < i else 13}"), "stop", (1, 2), -1.0, (1.0, float(k < i))
                        ),
                        "14" if k < i else "13",
                        k < i,
                        1.5 if k < i else 0.5,
                    )
                    for k in range(4)
                ),
            )
            for j in range(3)
        ]
        (rollouts / f"iter_{i:03d}.jsonl").write_text("".join(to_json(row) + "\n" for row in rows))
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Three models on 60 sums, `better` and `same` made from the training run `base`; and a policy gradient's run."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = build_byte_tokenizer()
    problems = tuple(Problem(f"sum/{i}", f"{i} + 1", str(i + 1), level=str(i % 2)) for i in range(60))
    for name, known in (("base", range(20)), ("better", range(50)), ("same", range(1, 22))):

        def answer(prompt, seed, known=known):
            number = int(tokenizer.decode(prompt).split(" ")[0])
            return f"#### {number + 1 if number in known else -1}"

        engine = ScriptedEngine(tokenizer, answer)
        engine.version = name
        run(evaluation(problems), served(engine, tokenizer), folder / name / "sums", {"model": f"{name}/hf"})
    write_policy_run(folder / "better", "base/hf")
    return folder


def write_policy_run(folder, parent) -> None:
    lines = ["iteration,step,train/ratio,train/ratio_max,train/clip_low,train/entropy,rollout/advantage_std,train/lr"]
    lines += [f",{10 * i},1.0,{1 + i / 10},0.0{i},{1 / i},,0.001" for i in range(1, 8)]
    lines += [f"{i},{30 * i},,,,,0.{i}," for i in (1, 2)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    (folder / "config.yaml").write_text(f"model:\n  init_args:\n    checkpoint: {parent}\n")
    start = {"started": "2026-01-02T03:04:05+00:00", "data": {"data/rows.jsonl": "0123456789abcdef"}}
    (folder / "environment.json").write_text(json.dumps({"starts": [start]}))
