import base64
import gzip
import io
import json
import re
import shutil

import pytest

from harness.commands.report import list_runs, report
from harness.errors import InputError
from harness.report.blocks import BlockWriter, Choice
from harness.report.formulas import Formulas, sources
from harness.report.lineage import made_by
from harness.report.matrix import short_names
from harness.report.page import PageConfig, page_data
from harness.report.runs import curves, find_runs, names_of, powers_of_two


def page_of(path, choice=None, iteration_choice=None):
    """What a page shows, and its blocks by number."""
    file = io.BytesIO()
    config = PageConfig("", choice or Choice(), iteration_choice or Choice(25))
    data = page_data([path], config, BlockWriter(file))
    found = re.findall(rb'id="block-(\d+)">([^<]*)<', file.getvalue())
    return data, {int(number): json.loads(gzip.decompress(base64.b64decode(block))) for number, block in found}


def problems_of(samples, blocks):
    return [problem for number, _ in samples["blocks"] for problem in blocks[number]["problems"]]


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
        page_of(tmp_path)


def test_the_page_holds_results_curves_and_the_grid(runs):
    data, blocks = page_of(runs, Choice(10))
    [each] = data["evaluations"]
    assert (each["samples"]["total"], each["samples"]["kept"]) == (12, 10)
    assert len(problems_of(each["samples"], blocks)) == 10
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


def test_blocks_hold_every_sample_and_the_index_says_where_and_how_right(runs, monkeypatch):
    monkeypatch.setattr("harness.report.blocks.BLOCK", 1000)
    data, blocks = page_of(runs / "eval")
    samples = data["evaluations"][0]["samples"]
    assert len(samples["blocks"]) > 3
    problems, index = problems_of(samples, blocks), blocks[samples["index"]]
    assert [problem["id"] for problem in problems] == index["id"] == [f"sum/{i}" for i in range(12)]
    for problem, verdicts in zip(problems, index["verdicts"], strict=True):
        marks = [
            "1" if row.get("correct") else {"no_answer": "n"}.get(row["status"], "0") for row in problem["responses"]
        ]
        assert "".join(marks) == verdicts
    formulas = {tex for number, _ in samples["blocks"] for tex in blocks[number]["formulas"]}
    assert formulas == {"x^2 + \\frac{1}{2}"}


def test_a_part_of_the_problems_is_random_hard_or_the_first_as_asked(runs):
    def kept(**choice):
        data, blocks = page_of(runs / "eval", Choice(4, **choice))
        return blocks[data["evaluations"][0]["samples"]["index"]]

    assert kept(pick="first")["id"] == [f"sum/{i}" for i in range(4)]
    assert kept(pick="random") == kept(pick="random")
    assert len({tuple(kept(pick="random", seed=seed)["id"]) for seed in range(5)}) > 1
    whole = page_of(runs / "eval")
    shares = [line.count("1") for line in whole[1][whole[0]["evaluations"][0]["samples"]["index"]]["verdicts"]]
    hardest = kept(pick="hardest")
    assert sorted(line.count("1") for line in hardest["verdicts"]) == sorted(shares)[:4]
    assert page_of(runs / "eval", Choice(0))[0]["evaluations"][0]["samples"]["blocks"] == []


def test_the_matrix_has_a_column_for_each_model_and_tests_adjusted_for_their_number(models):
    data, _ = page_of(models)
    assert (data["models"], data["reference"]) == (["base", "better", "same"], "base")
    assert len(data["tests"]) == 3
    by = {test["models"]: test for test in data["tests"]}
    first, second = by["base", "better"], by["base", "same"]
    assert first["significant"]
    assert not second["significant"]
    assert 0 < first["p_value"] < 1e-6
    assert first["p_value_holm"][0] == pytest.approx(2 * first["p_value"])  # the smaller of two against base
    assert first["sentence"].endswith("better is better.")


def test_the_models_are_compared_with_the_one_that_others_were_made_from(models, tmp_path):
    folder = tmp_path / "runs"
    shutil.copytree(models / "better", folder / "a_better")  # first by its name, but made from another
    (folder / "a_better/sums").rename(folder / "a_sums")
    shutil.copytree(models / "same", folder / "same")
    (folder / "a_better").rename(folder / "better")
    data, _ = page_of(folder)
    assert (data["models"], data["reference"]) == (["better", "same"], "same")


def test_names_of_models_are_as_short_as_they_can_be():
    names = short_names({"runs/a/hf", "runs/b/hf", "Qwen/Qwen2.5-Math-1.5B", "old/a/hf"})
    assert names == {
        "runs/a/hf": "runs/a", "old/a/hf": "old/a", "runs/b/hf": "b", "Qwen/Qwen2.5-Math-1.5B": "Qwen2.5-Math-1.5B",
    }  # fmt: skip
    assert short_names({"hf"}) == {"hf": "hf"}


def test_every_run_stands_below_the_one_it_was_made_from(models, tmp_path, capsys):
    assert list_runs(models, tmp_path / "runs.json") == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.partition("  ")[0] if line[0] != " " else "  " + line.strip().partition("  ")[0] for line in lines]
    assert names[0] == "run"
    assert names[names.index("better") + 1] == "  better/sums"
    [fit] = [run for run in json.loads((tmp_path / "runs.json").read_text())["runs"] if run["kind"] == "fit"]
    assert (fit["name"], fit["model"], fit["parent"]) == ("better", "base/hf", "")
    assert (fit["when"], fit["state"]) == ("2026-01-02T03:04:05+00:00", "step 60")
    assert fit["data"] == {"data/rows.jsonl": "0123456789ab"}


def test_a_checkpoint_belongs_to_the_run_above_it_even_if_both_were_moved(tmp_path):
    (tmp_path / "runs/a/checkpoints/last").mkdir(parents=True)
    folders = {tmp_path / "runs/a": "a", tmp_path / "runs/b": "b"}
    assert made_by("runs/a/checkpoints/last", tmp_path / "runs/eval/x", folders) == "a"
    assert made_by("runs/b/hf", tmp_path / "runs/eval/x", folders) == "b"
    assert made_by(str(tmp_path / "runs/a/checkpoints/last"), tmp_path / "x", folders) == "a"
    assert made_by("Qwen/Qwen2.5", tmp_path / "x", folders) == ""


def test_a_watched_page_is_written_again_when_a_run_has_changed(tmp_path, monkeypatch, capsys):
    folder, page, steps = tmp_path / "run", tmp_path / "run/report.html", []
    folder.mkdir()

    def sleep(seconds):
        steps.append(page.read_text() if page.exists() else "")
        if len(steps) == 1:
            (folder / "metrics.csv").write_text("step,train/loss\n1,0.5\n")
        elif len(steps) == 3:
            with open(folder / "metrics.csv", "a") as file:
                file.write("2,0.25\n")
        elif len(steps) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("harness.commands.report.time.sleep", sleep)
    assert report([folder], page, watch=True, every=3) == 0
    assert steps[0] == ""
    assert "[1.0, 0.5]" in steps[1]
    assert steps[2] == steps[1]  # nothing has changed, its own page does not count
    assert "[2.0, 0.25]" in steps[3]
    assert '"refresh": 3' in steps[3]
    said = capsys.readouterr().out
    assert said.count("waiting: ") == 1
    assert said.count(" MB at ") in (1, 2)  # what was said already is not said again


def test_formulas_are_converted_once_and_prices_are_none(tmp_path):
    texts = ["So $\\frac{1}{2}$ and \\(x^2\\).", "$\\frac{1}{2}$ again, it costs $5 and $7.", "\\[ broken{ \\]"]
    assert list(sources(texts[1])) == ["\\frac{1}{2}"]
    found = Formulas().of(texts)
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
    data, blocks = page_of(runs / "trees.jsonl")
    [each] = data["trees"]
    [problem] = problems_of(each["samples"], blocks)
    assert (each["name"], each["samples"]["total"], problem["id"]) == ("trees.jsonl", 1, "grown")
    first, second = problem["trees"]
    assert [len(first), len(second)] == [5, 3]
    assert (first[1]["parent"], first[1]["q"], first[1]["visits"], first[1]["value"]) == (0, 0.5, 3, 0.5)
    assert (first[2]["state"], first[2]["error"], first[2]["failed"]) == ("error", "ZeroDivisionError", True)
    assert first[3]["correct"]
    assert "correct" not in first[4]
    assert page_of(runs / "trees.jsonl", Choice(0))[0]["trees"][0]["samples"]["blocks"] == []
