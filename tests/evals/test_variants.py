"""Sets of variants beside their originals, and competitions before and after a month."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from harness.commands.evaluate import compare
from harness.errors import InputError
from harness.evals.dates import check_released, date_lines
from harness.evals.evaluation import Evaluation
from harness.evals.rows import TaskData, load_task
from harness.evals.run import run
from harness.evals.samples import read_rollouts
from harness.evals.task import Task, find_tasks, shipped_tasks
from harness.evals.variants import gap_between, gap_lines, variant_pairs
from harness.metrics.intervals import paired_test
from harness.metrics.summary import MetricConfig
from harness.types import Problem, SamplingConfig
from tests.evals.conftest import ScriptedEngine
from tests.evals.test_run import served


def evaluated(tokenizer, folder, task: str, problems, right):
    """An evaluation whose sample of the seed's parity is right where `right` says so of the number and the parity."""

    def answer(prompt, seed):
        number = int(tokenizer.decode(prompt).split(" ")[0])
        return f"#### {number + 1 if right(number, seed % 2) else -1}"

    sampling = SamplingConfig(n=2, temperature=1.0, max_tokens=64)
    asked = Evaluation(Task(task), TaskData(tuple(problems), "here", "0"), MetricConfig((1, 2)), sampling)
    return run(asked, served(ScriptedEngine(tokenizer, answer), tokenizer), folder / task, {})


def sums(prefix: str, numbers, cluster=lambda number: "") -> list[Problem]:
    return [Problem(f"{prefix}/{i}", f"{i} + 1", str(i + 1), cluster=cluster(i)) for i in numbers]


@pytest.fixture
def sets(byte_tokenizer, tmp_path):
    """Originals 0 to 19, of which those below 15 are solved; of those below 10 variants 100 + 10 i + j, j < 3."""
    evaluated(byte_tokenizer, tmp_path, "originals", sums("o", range(20)), lambda number, parity: number < 15)
    variants = [100 + 10 * i + j for i in range(10) for j in range(3)]
    evaluated(
        byte_tokenizer,
        tmp_path,
        "variants",
        sums("v", variants, lambda number: f"o/{(number - 100) // 10}"),
        lambda number, parity: number % 10 == 0 or (number % 10 == 1 and parity == 0),
    )
    return tmp_path


def test_the_gap_is_of_each_original_to_the_mean_of_its_variants(sets):
    gap = gap_between(sets / "originals", sets / "variants")
    # By hand, from what is on file.
    shares: dict[str, list[float]] = {}
    for rollout in read_rollouts(sets / "variants"):
        shares.setdefault(rollout.problem.cluster, []).append(np.mean([row.correct for row in rollout.responses]))
    means = [float(np.mean(shares[f"o/{i}"])) for i in range(10)]
    assert (gap.originals, gap.variants) == (10, 30)
    assert gap.original.value == 1.0
    assert gap.variant.value == pytest.approx(np.mean(means), abs=1e-12)
    assert gap.test == paired_test([1.0] * 10, means)
    assert gap.test.difference.value == pytest.approx(np.mean(means) - 1, abs=1e-12)
    assert gap.worst.value == 0.0
    assert gap.spread == pytest.approx(np.mean([np.std(each, ddof=1) for each in shares.values()]), abs=1e-12)
    assert gap.both_fail == 0.0


def test_compare_says_the_gap_of_two_sets_and_writes_it(sets, capsys):
    assert compare(sets / "originals", sets / "variants", output=sets / "gap.json") == 0
    said = capsys.readouterr().out
    assert said.startswith("variants against its 10 originals in originals: accuracy 0.")
    assert "Worst of 3 variants 0.0000" in said
    written = json.loads((sets / "gap.json").read_text())["gaps"]["variants"]
    assert written["originals_of"] == "originals"
    assert written["gap"]["problems"] == 10
    with pytest.raises(InputError, match="several problems are the original 'o/0'; give the set of originals first"):
        compare(sets / "variants", sets / "originals")
    with pytest.raises(InputError, match="'tokens' is no share"):
        compare(sets / "originals", sets / "variants", "tokens")


def test_two_sets_of_variants_pair_by_the_original_they_share(byte_tokenizer, tmp_path):
    def family(number):
        return f"math/{number % 100}"

    evaluated(byte_tokenizer, tmp_path, "simple", sums("s", range(10), family), lambda number, parity: number < 8)
    evaluated(byte_tokenizer, tmp_path, "hard", sums("h", range(100, 110), family), lambda number, parity: number < 104)
    evaluated(byte_tokenizer, tmp_path, "strangers", sums("x", range(3)), lambda number, parity: True)
    with pytest.raises(InputError, match="no problem of the second names one of the first"):
        compare(tmp_path / "simple", tmp_path / "strangers")
    gap = gap_between(tmp_path / "simple", tmp_path / "hard")
    assert (gap.original.value, gap.variant.value) == (0.8, 0.4)
    assert gap.both_fail == 0.2
    assert gap.worst == gap.variant
    twice = sums("t", [0, 100], family)
    evaluated(byte_tokenizer, tmp_path, "twice", twice, lambda number, parity: True)
    with pytest.raises(InputError, match="several problems are the original 'math/0'"):
        gap_between(tmp_path / "twice", tmp_path / "hard")


def test_an_evaluation_of_both_says_the_gap(sets):
    done = [({"task": name}, sets / name) for name in ("originals", "variants")]
    tasks = {"originals": Task("originals"), "variants": Task("variants", variants_of="originals")}
    [line] = gap_lines(tasks, done)
    assert line.startswith("variants against its 10 originals")
    assert gap_lines(tasks, done[1:]) == []
    assert variant_pairs({"math": sets, "gsm8k": sets}, {"gsm_plus": sets, "svamp": sets}) == [("gsm8k", "gsm_plus")]


def test_every_shipped_variant_names_problems_of_its_originals(data_dir):
    for task in shipped_tasks().values():
        if task.variants_of:
            originals = {problem.id for problem in load_task(shipped_tasks()[task.variants_of], data_dir).problems}
            clusters = {problem.cluster for problem in load_task(task, data_dir).problems}
            # Those of MATH-Perturb that were made from training problems have no original in the test set.
            assert len(originals & clusters) == {"math": 115, "gsm8k": len(clusters)}[task.variants_of]


def test_competitions_are_told_apart_by_the_month_of_release(byte_tokenizer, tmp_path):
    tasks = {"old": Task("old", held="2024-02"), "new": Task("new", held="2025-06"), "other": Task("other")}
    for name in tasks:
        evaluated(byte_tokenizer, tmp_path, name, sums(name, range(10)), lambda n, parity, name=name: name == "old")
    done = [({"task": name}, tmp_path / name) for name in tasks]
    assert date_lines("", tasks, done) == []
    before, after, _ = date_lines("2025-06", tasks, done)
    assert before.startswith("before 2025-06: accuracy 1.0000 [")
    assert before.endswith("on 10 problems of old (2024-02)")
    assert after.startswith("from 2025-06 on: accuracy 0.0000 [")
    assert after.endswith("on 10 problems of new (2025-06)")
    assert date_lines("2026-01", tasks, done)[1] == "from 2026-01 on: no problem; add a competition of that time."


def test_a_month_that_is_none_and_tasks_without_dates_are_refused():
    check_released("", [])
    check_released("2025-06", find_tasks("aime2025,gsm8k"))
    with pytest.raises(InputError, match="'June' is no month; write 2025-06"):
        check_released("June", find_tasks("aime2025"))
    with pytest.raises(InputError, match="no task says when its problems became public"):
        check_released("2025-06", [replace(task, held="") for task in find_tasks("gsm8k")])
