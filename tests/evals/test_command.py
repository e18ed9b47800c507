"""The commands on real benchmark rows, with a small random model and real engines."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.commands.evaluate import eval_tasks, list_tasks, model_name, numbers, output_folder, shares
from harness.engines import EngineConfig
from harness.errors import InputError
from harness.evals.samples import read_samples
from harness.report.runs import find_runs
from harness.rewards import ArithmeticSteps, Likelihood, WeightedSum
from harness.rollouts.dispatcher import Dispatcher
from harness.search import MCTS
from tests.evals.conftest import ScriptedEngine
from tests.evals.test_run import TEMPLATE, evaluation

HF = EngineConfig(kind="transformers", dtype="float32", max_num_seqs=16)
ROWS = "gsm8k,math500,aime2024"


def evaluate(model, output, **options) -> int:
    return eval_tasks(**{"engine": HF, "max_tokens": 16, "limit": 4, "output": output, "model": str(model)} | options)


def greedy_tokens(folder: Path) -> dict[str, tuple[int, ...]]:
    return {sample.problem_id: sample.response.token_ids for sample in read_samples(folder)}


def test_real_rows_are_evaluated_and_reported(byte_model_dir, data_dir, tmp_path, capsys):
    assert evaluate(byte_model_dir, tmp_path, task=ROWS, data_dir=data_dir, protocol="gsm8k", export="inspect") == 0
    printed = capsys.readouterr().out
    for task in ROWS.split(","):
        results = json.loads((tmp_path / task / "results.json").read_text())
        assert results["counts"]["problems"] == 4
        assert results["config"]["protocol"] == "gsm8k"
        assert results["hashes"]["weights"]
        assert (tmp_path / task / f"{task}.json").is_file()
        assert re.search(
            rf"^{task}: only the first 4 of \d+ problems, 4 samples, protocol gsm8k", printed, re.MULTILINE
        )
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert lines[0].startswith("time,folder,task")
    assert sum("accuracy" in line for line in lines) == 3


def test_the_export_of_a_run_is_evaluated_under_the_runs_name_where_the_report_finds_it(
    byte_model_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "10_sft"
    run.mkdir(parents=True)
    (run / ".hf-step=1250").symlink_to(byte_model_dir)
    (run / "hf").symlink_to(".hf-step=1250")
    task = str(write_rows(tmp_path / "rows.jsonl"))
    assert evaluate("runs/10_sft/hf", None, task=task, protocol="gsm8k", limit=None) == 0
    [folder] = (tmp_path / "runs" / "eval").iterdir()
    assert folder.name.startswith("10_sft-")
    assert find_runs([tmp_path / "runs" / "eval"]) == [path for path in folder.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("runs/a/hf", "a"),
        ("runs/a/.hf-step=7", "a-step=7"),
        ("runs/a/checkpoints/epoch=2-step=6", "a-epoch=2-step=6"),
        ("runs/a", "a"),
        ("owner/model", "owner--model"),
    ],
)
def test_a_model_is_named_by_its_path_as_given(tmp_path, monkeypatch, given, name):
    monkeypatch.chdir(tmp_path)
    if given != "owner/model":
        (tmp_path / given).mkdir(parents=True)
    assert model_name(given) == name


def test_evaluations_that_differ_in_anything_but_n_have_folders_of_their_own(byte_tokenizer):
    plain = evaluation(n=2)

    def folder(template=TEMPLATE, reward=None, weights="w", **changed):
        engine = ScriptedEngine(byte_tokenizer, lambda prompt, seed: "")
        engine.version = weights
        dispatcher = Dispatcher(engine, byte_tokenizer, template, reward)
        return output_folder(None, False, "owner/model", dispatcher, replace(plain, reward=reward, **changed))

    def sampling(**changed):
        return {"sampling": replace(plain.sampling, **changed)}

    others = [
        folder(**sampling(max_tokens=65)),
        folder(**sampling(seed=1)),
        folder(**sampling(top_p=0.9)),
        folder(**sampling(top_k=3)),
        folder(**sampling(temperature=0.5)),
        folder(search=MCTS()),
        folder(search=MCTS(rollouts=3)),
        folder(search=MCTS(), reward=WeightedSum(ArithmeticSteps())),
        folder(search=MCTS(), reward=WeightedSum(Likelihood())),
        folder(reward=ArithmeticSteps()),
        folder(grader="rstar"),
        folder(data=replace(plain.data, total=20)),
        folder(data=replace(plain.data, sha256="1")),
        folder(weights="v"),
        folder(template=replace(TEMPLATE, user="{question}?")),
    ]
    assert len({folder(), *others}) == 1 + len(others)
    assert folder(**sampling(n=4)) == folder()
    assert folder(template=replace(TEMPLATE)) == folder()


@pytest.mark.vllm
@pytest.mark.slow
def test_both_engines_give_the_same_greedy_answers_in_float32(byte_model_dir, data_dir, tmp_path):
    pytest.importorskip("vllm")
    for kind in ("transformers", "vllm"):
        engine = EngineConfig(kind=kind, dtype="float32", max_num_seqs=16)
        evaluate(
            byte_model_dir, tmp_path / kind, task=ROWS, data_dir=data_dir, engine=engine, limit=6, protocol="gsm8k"
        )
    for task in ROWS.split(","):
        assert greedy_tokens(tmp_path / "transformers" / task) == greedy_tokens(tmp_path / "vllm" / task)
        documents = [json.loads((tmp_path / e / task / "results.json").read_text()) for e in ("transformers", "vllm")]
        # The samples' own hash has the engines' digits in it.
        hashes = [{name: value for name, value in d["hashes"].items() if name != "samples"} for d in documents]
        assert hashes[0] == hashes[1]


def write_rows(path: Path, count: int = 6) -> Path:
    path.write_text("".join(json.dumps({"question": f"{i} + 1", "answer": str(i + 1)}) + "\n" for i in range(count)))
    return path


def test_training_rows_that_hold_the_problems_are_reported(byte_model_dir, tmp_path, capsys):
    task = write_rows(tmp_path / "sums.jsonl")
    evaluate(byte_model_dir, tmp_path / "out", task=str(task), protocol="gsm8k", training_files=[str(task)], limit=None)
    assert "contamination: sums: of 6 problems 6 stand in the training rows" in capsys.readouterr().out
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert len(results["contamination"]["same"]) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "gsm9k"}, "did you mean 'gsm8k'"),
        ({"task": "arithmetic", "protocol": "gsm8"}, "did you mean 'gsm8k'"),
        ({"task": "arithmetic", "n": 4, "k": "8"}, "k = 8 needs 1 <= k <= n, and n is 4"),
        ({"task": "arithmetic", "k": "1,x"}, "'x' is not a whole number"),
        ({"task": "arithmetic", "export": "excel"}, "unknown export 'excel'"),
        ({"task": "arithmetic", "limit": 0}, "limit is 0"),
        ({"task": "arithmetic", "top_p": 3.0}, "top_p is 3.0; it must be above 0, at most 1"),
        ({"task": "arithmetic", "min_p": 1.5}, "min_p is 1.5; it must be from 0 to 1"),
        ({"task": "arithmetic", "n": 0, "k": "1"}, "n is 0"),
        ({"task": "arithmetic", "preset": "resoning"}, "unknown preset 'resoning'; known: auto, none, reasoning"),
        ({"task": "arithmetic", "samples": "sum/1"}, "task 'arithmetic' has no problem 'sum/1'; its ids are like"),
        ({"task": "arithmetic", "grader": "lenient"}, "Unknown grader 'lenient'; the graders are strict"),
        ({"task": "arithmetic", "training_files": ["none.jsonl"]}, "none.jsonl: no such file"),
        ({"task": "missing.jsonl"}, "missing.jsonl: no such file"),
    ],
)
def test_a_mistake_in_the_options_is_one_sentence(byte_model_dir, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        evaluate(byte_model_dir, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_mistakes_in_the_sampling_are_found_before_an_engine_is_opened(byte_model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.engines.open_engine", lambda *_: pytest.fail("an engine was opened"))
    for options in ({"temperature": -1.0}, {"top_p": 3.0}, {"n": 0}, {"n": 4, "k": "8"}, {"stop": [""]}):
        with pytest.raises(InputError, match=next(iter(options))):
            evaluate(byte_model_dir, tmp_path, task="arithmetic", **options)


def test_a_model_that_thinks_gets_the_settings_of_reasoning_but_what_is_given_wins(byte_model_dir, tmp_path, capsys):
    from transformers import AutoTokenizer

    thinker = tmp_path / "thinker"
    shutil.copytree(byte_model_dir, thinker)
    tokenizer = AutoTokenizer.from_pretrained(thinker)
    tokenizer.chat_template += "<think>\n"
    tokenizer.save_pretrained(thinker)
    task = str(write_rows_of(tmp_path / "rows.jsonl"))
    options = {"task": task, "protocol": "boxed", "temperature": None, "limit": 2}

    def sampling(folder, **given):
        assert evaluate(thinker, tmp_path / folder, **options | given) == 0
        return json.loads((tmp_path / folder / "results.json").read_text())["sampling"]

    drawn = sampling("auto", max_tokens=8)
    assert (drawn["max_tokens"], drawn["temperature"], drawn["top_p"]) == (8, 0.6, 0.95)
    line = "--preset reasoning: up to 32768 tokens, temperature 0.6, top-p 0.95 where not given"
    assert line in capsys.readouterr().out
    drawn = sampling("given", max_tokens=8, top_p=1.0, temperature=0.0)
    assert (drawn["temperature"], drawn["top_p"]) == (0.0, 1.0)
    drawn = sampling("none", preset="none", max_tokens=8)
    assert (drawn["temperature"], drawn["top_p"]) == (0.0, 1.0)


def test_problems_are_chosen_by_their_ids(byte_model_dir, tmp_path, capsys):
    task = str(write_rows_of(tmp_path / "rows.jsonl"))
    assert evaluate(byte_model_dir, tmp_path / "out", task=task, protocol="plain", samples="b, d", limit=None) == 0
    assert {sample.problem_id for sample in read_samples(tmp_path / "out")} == {"b", "d"}
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["limit"] == {"problems": 2, "of": 4, "ids": ["b", "d"]}
    printed = capsys.readouterr().out
    assert "only 2 of 4 problems, chosen by their ids; leave out --samples for the whole." in printed


def write_rows_of(path: Path) -> Path:
    rows = [{"id": name, "question": f"{name}?", "answer": "1"} for name in "abcd"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_chat_protocol_needs_a_chat_template(tiny_model_dir, tmp_path):
    with pytest.raises(InputError, match="protocol 'boxed' is a chat, but the tokenizer has no chat template"):
        evaluate(tiny_model_dir, tmp_path, task="arithmetic", protocol="boxed")


def test_coding_tasks_want_complete_isolation_unless_told_otherwise(tmp_path, byte_model_dir):
    from harness.commands.evaluate import Plan, check_sandbox
    from harness.evals.evaluation import Evaluation
    from harness.evals.rows import TaskData
    from harness.evals.task import shipped_tasks
    from harness.prompts.find import find_template
    from harness.sandbox import Sandbox

    plans = [Plan(Evaluation(shipped_tasks()["mbpp"], TaskData((), "", "")), find_template("code"))]
    with Sandbox() as sandbox:
        complete = not any(sandbox.layers.values())
        check_sandbox(plans, sandbox)
    if complete:
        check_sandbox(plans, None)
    else:
        with pytest.raises(InputError, match=r"task 'mbpp' runs generated programs.*--sandbox Sandbox"):
            check_sandbox(plans, None)


def test_a_model_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        evaluate(tmp_path / "nothing", tmp_path, task="arithmetic")


def test_lists_of_numbers_are_sorted_and_checked():
    assert numbers("8, 1,32", "k") == (1, 8, 32)
    with pytest.raises(InputError, match="'0' is not a whole number of at least 1"):
        numbers("0", "k")


def test_shares_are_read_from_the_command_line():
    assert shares("1, 0.5,.75") == (0.5, 0.75, 1.0)
    for bad in ("0", "1.5", "half"):
        with pytest.raises(InputError, match=f"'{bad}' is no share above 0 and up to 1"):
            shares(bad)


def test_the_list_of_tasks_says_what_is_here(tmp_path, capsys):
    (tmp_path / "amc23.jsonl").write_text("")
    assert list_tasks(tmp_path) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert rows["amc23"][1:5] == ["40", "math", "boxed", "here"]
    assert rows["gsm8k"][4] == "hub"
    assert rows["aqua"][4] == "missing"
    assert "built" in rows["arithmetic"]
