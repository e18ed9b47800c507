import json
import shutil
from dataclasses import replace

import pytest
from scipy.stats import binomtest

from harness.commands.evaluate import compare
from harness.errors import InputError
from harness.evals.compare import compare_folders, evaluation_folders, sentence
from harness.evals.run import run
from harness.metrics.sequential import random_order
from harness.store import sealed, write_json
from harness.types import Problem
from tests.evals.conftest import ScriptedEngine
from tests.evals.test_run import evaluation, half_right, served

MANY = tuple(Problem(f"sum/{i}", f"{i} + 1", str(i + 1)) for i in range(60))


def knows(tokenizer, numbers, name="weights"):
    """An engine that solves `i + 1` for the given i."""

    def answer(prompt, seed):
        number = int(tokenizer.decode(prompt).split(" ")[0])
        return f"#### {number + 1 if number in numbers else -1}"

    engine = ScriptedEngine(tokenizer, answer)
    engine.version = name
    return engine


@pytest.fixture
def evaluated(byte_tokenizer, tmp_path):
    def evaluate(name, numbers, problems=MANY):
        run(evaluation(problems), served(knows(byte_tokenizer, numbers, name), byte_tokenizer), tmp_path / name, {})
        return tmp_path / name

    return evaluate


def test_one_sample_each_is_mcnemars_test(evaluated):
    first, second = evaluated("a", range(20)), evaluated("b", range(10, 50))
    test, count = compare_folders(first, second)
    assert count == 60
    assert test.p_value == pytest.approx(binomtest(10, 40).pvalue)
    assert test.difference.value == pytest.approx(20 / 60)
    assert "b is better" in sentence("sums", "accuracy", test, count, ("a", "b"))


def test_no_winner_is_called_among_equals(evaluated):
    test, count = compare_folders(evaluated("a", range(20)), evaluated("b", range(1, 22)))
    text = sentence("sums", "accuracy", test, count, ("a", "b"))
    assert "No winner" in text
    assert "detectable at 80 % power" in text


def test_several_samples_take_the_paired_bootstrap(byte_tokenizer, tmp_path):
    for name, engine in (("a", knows(byte_tokenizer, range(50))), ("b", half_right(byte_tokenizer))):
        run(evaluation(MANY, n=4, k=(1, 4)), served(engine, byte_tokenizer), tmp_path / name, {})
    test, _ = compare_folders(tmp_path / "a", tmp_path / "b", "accuracy")
    assert test.method == "paired bootstrap"
    assert compare_folders(tmp_path / "a", tmp_path / "b", "pass@4")[0].difference.value > 0
    assert compare_folders(tmp_path / "a", tmp_path / "b", "maj@4")[1] == 60
    with pytest.raises(InputError, match="'pass@8' cannot be computed"):
        compare_folders(tmp_path / "a", tmp_path / "b", "pass@8")
    with pytest.raises(InputError, match="no metric 'beauty'"):
        compare_folders(tmp_path / "a", tmp_path / "b", "beauty")


def test_only_shared_problems_are_compared_and_changed_ones_refused(evaluated):
    fewer = evaluated("fewer", range(5), MANY[:30])
    assert compare_folders(evaluated("a", range(20)), fewer)[1] == 30
    other = tuple(Problem(f"sum/{i}", f"{i} + 2", str(i + 2)) for i in range(3))
    with pytest.raises(InputError, match="share no problem"):
        compare_folders(fewer, evaluated("none", (), (Problem("else", "5 + 1", "6"),)))
    changed = evaluated("changed", (), other)
    results = json.loads((changed / "results.json").read_text())
    write_json(changed / "results.json", sealed({**results, "hashes": {**results["hashes"], "data": "1"}}))
    with pytest.raises(InputError, match="problem 'sum/0' differs"):
        compare_folders(fewer, changed)


def test_the_command_prints_and_writes_each_shared_task(evaluated, tmp_path, capsys):
    first, second = evaluated("a", range(20)), evaluated("b", range(10, 50))
    assert compare(first, second, output=tmp_path / "tests.json") == 0
    assert "sums: accuracy of" in capsys.readouterr().out
    assert json.loads((tmp_path / "tests.json").read_text())["tests"]["sums"]["significant"]


def in_order(count, seed=0):
    by_id = {problem.id: problem for problem in MANY}
    return tuple(by_id[key] for key in random_order(list(by_id), seed)[:count])


def test_a_comparison_may_be_looked_at_before_its_end(byte_tokenizer, tmp_path, capsys):
    def evaluate(name, numbers, count):
        task = evaluation(in_order(count))
        data = replace(task.data, total=60, order=0)
        engine = served(knows(byte_tokenizer, numbers, name), byte_tokenizer)
        run(replace(task, data=data), engine, tmp_path / f"{name}{count}", {})
        return tmp_path / f"{name}{count}"

    whole, partial = evaluate("a", range(0), 60), evaluate("b", range(60), 36)
    assert compare(whole, partial, sequential="obrien_fleming", output=tmp_path / "tests.json") == 0
    # 12 of 12 won have p = 2^-11, above the first bound's level of 5e-6; 24 of 24 have 2^-23, below the second's .0013.
    assert "look 2 of 5, 24 of 60 problems" in (text := capsys.readouterr().out)
    assert f"{partial} is better" in text
    assert json.loads((tmp_path / "tests.json").read_text())["tests"]["sums"]["taken"] == 2
    compare(whole, partial, sequential="e_process")
    assert "rejected after" in capsys.readouterr().out
    same = evaluate("c", range(0), 36)
    compare(whole, same, sequential="pocock")
    assert "look 3 of 5, 36 of 60 problems: |z| = 0.00, bound 2.41; go on." in capsys.readouterr().out
    compare(whole, evaluate("b", range(60), 6), sequential="pocock")
    assert "no look yet; the first is at 12 problems, 6 are known" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"--sequential 'bayes' is unknown; it is obrien_fleming"):
        compare(whole, same, sequential="bayes")
    with pytest.raises(InputError, match=r"evaluate with --limit and --order 1"):
        compare(whole, same, sequential="pocock", order=1)


def test_several_tasks_are_adjusted_for_their_number(evaluated, tmp_path, capsys):
    for name, numbers in (("a", range(20)), ("b", range(10, 50))):
        folder = evaluated(name, numbers)
        (tmp_path / "both" / name).mkdir(parents=True)
        for task in ("one", "two"):
            shutil.copytree(folder, tmp_path / "both" / name / task)
            path = tmp_path / "both" / name / task / "results.json"
            write_json(path, sealed({**json.loads(path.read_text()), "task": task}))
    compare(tmp_path / "both" / "a", tmp_path / "both" / "b", output=tmp_path / "tests.json")
    tests = json.loads((tmp_path / "tests.json").read_text())["tests"]
    assert [test["p_value_holm"] for test in tests.values()] == pytest.approx([2 * tests["one"]["p_value"]] * 2)
    assert "adjusted for 2 tasks (Holm)" in capsys.readouterr().out
    same = evaluated("c", range(60))
    for name, numbers in (("a", range(0)), ("b", range(60))):
        folder = evaluated(f"sure {name}", numbers)
        shutil.copytree(folder, tmp_path / "bets" / name / "sure")
        shutil.copytree(same, tmp_path / "bets" / name / "same")
        for task in ("sure", "same"):
            path = tmp_path / "bets" / name / task / "results.json"
            write_json(path, sealed({**json.loads(path.read_text()), "task": task}))
    compare(tmp_path / "bets" / "a", tmp_path / "bets" / "b", sequential="e_process", output=tmp_path / "tests.json")
    tests = json.loads((tmp_path / "tests.json").read_text())["tests"]
    assert tests["same"]["evidence"] == 1.0
    assert tests["sure"]["evidence"] >= 2 / 0.05
    assert {task: test["found_e_bh"] for task, test in tests.items()} == {"sure": True, "same": False}
    assert "of 2 tasks together (e-BH, at most 5 % of those found are false): sure." in capsys.readouterr().out


def test_problems_of_one_cluster_count_together(evaluated):
    def of_five(name, numbers):
        return evaluated(name, numbers, tuple(replace(p, cluster=f"c{i // 12}") for i, p in enumerate(MANY)))

    first, second = of_five("a", range(12)), of_five("b", range(12, 36))
    test, _ = compare_folders(first, second)
    assert test.method == "paired bootstrap of 5 clusters"
    assert not test.significant
    with pytest.raises(InputError, match="problems share clusters"):
        compare(first, second, sequential="pocock")


def test_a_folder_without_results_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="holds no finished evaluation"):
        evaluation_folders(tmp_path)
    with pytest.raises(InputError, match="no such directory"):
        evaluation_folders(tmp_path / "none")
