import json

import pytest

from harness.errors import InputError
from harness.report.formulas import formulas, sources
from harness.report.page import page_data
from harness.report.runs import curves, find_runs, names_of, powers_of_two


def test_runs_are_found_below_a_folder_and_named_by_what_differs(runs):
    found = find_runs([runs])
    assert sorted(names_of(found, [runs])) == ["eval", "train", "trees.jsonl"]
    assert names_of([runs / "eval"], [runs]) == ["eval"]
    assert find_runs([runs / "eval", runs]) == [runs / "eval", runs / "trees.jsonl", runs / "train"]
    assert find_runs([runs / "trees.jsonl"]) == [runs / "trees.jsonl"]


def test_a_folder_without_runs_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="holds no evaluation"):
        find_runs([tmp_path])
    (tmp_path / "notes.jsonl").write_text("no JSON\n")
    with pytest.raises(InputError, match="holds no evaluation"):
        find_runs([tmp_path / "notes.jsonl"])
    with pytest.raises(InputError, match="no such directory"):
        find_runs([tmp_path / "none"])


def test_a_torn_decision_file_is_named(runs, tmp_path):
    folder = tmp_path / "run/rollouts"
    folder.mkdir(parents=True)
    (folder / "iter_001.json").write_text('{"iteration": ')
    with pytest.raises(InputError, match=r"iter_001.json: cannot be read"):
        page_data([tmp_path], 10)


def test_the_page_holds_results_curves_and_the_grid(runs):
    data = page_data([runs], 10)
    [each] = data["evaluations"]
    assert each["num_problems"] == 12
    assert len(each["problems"]) == 10
    assert [point["x"] for point in each["pass_curve"]] == [1, 2, 4]
    assert each["pass_curve"][0]["y"] == each["results"]["metrics"]["accuracy"]["value"]
    [training] = data["trainings"]
    assert training["curves"]["eval/accuracy"] == [[1.0, 0.4], [2.0, 0.5]]
    assert training["curves"]["train/loss"] == [[10.0, 1.0], [20.0, 0.5]]
    second = training["iterations"][1]
    assert second["grid"]["chosen"] == {"temperature": 1.0, "threshold": 0.5}
    assert second["monitors"] == {"accuracy": 0.6, "entropy": None}
    # 2 of 4 samples are right: pass@2 = 1 - 1/6; the reward ranks the right ones first.
    assert [point["y"] for point in second["draws"]["pass@k"]] == [0.5, round(5 / 6, 6), 1.0]
    assert [point["y"] for point in second["draws"]["reward@k/answer+prm"]] == [round(5 / 6, 6), 1.0]
    json.dumps(data, allow_nan=False)


def test_a_problem_that_some_samples_solve_is_a_disagreement(runs):
    problems = {problem["id"]: problem for problem in page_data([runs], 12)["evaluations"][0]["problems"]}
    assert not problems["sum/5"]["disagreement"]
    for problem in problems.values():
        assert problem["disagreement"] == (len({row["correct"] for row in problem["responses"]}) == 2)


def test_formulas_are_converted_once_and_prices_are_none(tmp_path):
    texts = ["So $\\frac{1}{2}$ and \\(x^2\\).", "$\\frac{1}{2}$ again, it costs $5 and $7.", "\\[ broken{ \\]"]
    assert list(sources(texts[1])) == ["\\frac{1}{2}"]
    found = formulas(texts)
    assert {"\\frac{1}{2}", "x^2"} <= set(found)
    assert "<mfrac>" in found["\\frac{1}{2}"]


def test_curves_leave_out_what_is_no_number(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,iteration,train/loss,eval/accuracy,epoch\n1,,nan,,0\n2,,0.5,,0\n2,1,,abc,0\n")
    assert curves(path) == {"train/loss": [[2.0, 0.5]]}
    assert curves(tmp_path / "none.csv") == {}


def test_powers_of_two_end_at_n():
    assert powers_of_two(1) == [1]
    assert powers_of_two(6) == [1, 2, 4, 6]


def test_trees_stand_with_all_their_nodes(runs):
    [each] = page_data([runs / "trees.jsonl"], 10)["trees"]
    [problem] = each["problems"]
    assert (each["name"], each["num_problems"], problem["id"]) == ("trees.jsonl", 1, "grown")
    first, second = problem["trees"]
    assert [len(first), len(second)] == [5, 3]
    assert (first[1]["parent"], first[1]["q"], first[1]["visits"], first[1]["value"]) == (0, 0.5, 3, 0.5)
    assert (first[2]["state"], first[2]["error"], first[2]["failed"]) == ("error", "ZeroDivisionError", True)
    assert first[3]["correct"]
    assert "correct" not in first[4]
    assert page_data([runs / "trees.jsonl"], 0)["trees"][0]["problems"] == []
