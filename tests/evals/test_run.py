"""Evaluations through the real path, with engines that answer from a script."""

from __future__ import annotations

import csv
import json
import multiprocessing
import random
import re
import time
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest

import harness.evals.run as run_module
import harness.rollouts.collect as collect_module
from harness.commands.evaluate import compare, table
from harness.errors import InputError
from harness.evals.closing import caveats, closing_words
from harness.evals.compare import problem_values
from harness.evals.evaluation import Evaluation
from harness.evals.export import to_inspect
from harness.evals.record import record
from harness.evals.rows import TaskData
from harness.evals.run import run
from harness.evals.samples import (
    GAVE_UP,
    LOG,
    RESULTS,
    SAMPLES,
    Sample,
    SampleStore,
    read_rollouts,
    read_samples,
    stream_rollouts,
)
from harness.evals.task import Task
from harness.metrics.intervals import mean_interval
from harness.metrics.summary import MetricConfig, evaluate, own_name, rankings_of
from harness.prompts.find import find_template
from harness.prompts.templates import PromptTemplate
from harness.provenance import identity
from harness.report.blocks import BlockWriter, Choice
from harness.report.runs import evaluation as page_of
from harness.rewards import ArithmeticSteps, Outcome, WeightedSum
from harness.rollouts.dispatcher import Dispatcher
from harness.search import MCTS
from harness.store import read_jsonl, sealed, to_dict, write_json, write_rows
from harness.types import Problem, Response, Rollout, SamplingConfig, Score, ScoredResponse
from tests.evals.conftest import ScriptedEngine, oracle, sums

TEMPLATE = PromptTemplate("test", user="{question} = ?\n", answer_protocol="gsm8k")
PROBLEMS = sums(10)
LONG = sums(300)


def evaluation(problems=PROBLEMS, n=1, k=(1,), **options) -> Evaluation:
    sampling = SamplingConfig(n=n, temperature=0.0 if n == 1 else 1.0, max_tokens=64)
    return Evaluation(Task("sums"), TaskData(tuple(problems), "here", "0"), MetricConfig(k), sampling, **options)


def half_right(tokenizer) -> ScriptedEngine:
    """Right where the sample's seed is even; the answer alone decides."""

    def answer(prompt, seed):
        number = int(tokenizer.decode(prompt).split(" ")[0])
        return f"#### {number + 1 if seed % 2 == 0 else number}"

    return ScriptedEngine(tokenizer, answer)


def served(engine, tokenizer, template=TEMPLATE) -> Dispatcher:
    return Dispatcher(engine, tokenizer, template)


class Killed(BaseException):
    """Stands for the process's end; nothing catches it."""


class DyingEngine:
    """Passes everything to an engine until it has been polled so many times."""

    def __init__(self, engine, polls: int) -> None:
        self.engine, self.polls = engine, polls

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def poll(self):
        if self.polls == 0:
            raise Killed
        self.polls -= 1
        return self.engine.poll()


def test_the_oracle_is_right_and_a_garbage_engine_is_wrong(byte_tokenizer, tmp_path):
    problems = sums(10)
    prompts = {TEMPLATE.encode(p, byte_tokenizer): p.solution for p in problems}
    right = run(evaluation(problems), served(oracle(byte_tokenizer, prompts), byte_tokenizer), tmp_path / "a", {})
    garbage = ScriptedEngine(byte_tokenizer, lambda prompt, seed: "\u00e4 \\boxed{ ####")
    wrong = run(evaluation(problems), served(garbage, byte_tokenizer), tmp_path / "b", {})
    assert right["metrics"]["accuracy"]["value"] == 1.0
    assert wrong["metrics"]["accuracy"]["value"] == 0.0
    assert wrong["counts"]["no_answer"] == 10
    assert right["metrics"]["accuracy"]["low"] < 1.0


def test_a_second_run_draws_nothing_and_says_the_same(byte_tokenizer, tmp_path):
    engine = half_right(byte_tokenizer)
    first = run(evaluation(n=4, k=(1, 2, 4)), served(engine, byte_tokenizer), tmp_path, {})
    content = (tmp_path / SAMPLES).read_bytes()
    assert engine.num_samples == 40
    second = run(evaluation(n=4, k=(1, 2, 4)), served(engine, byte_tokenizer), tmp_path, {})
    assert engine.num_samples == 40
    assert without_commit(second) == without_commit(first)
    assert (tmp_path / SAMPLES).read_bytes() == content


def test_raising_n_draws_only_what_is_missing_and_equals_drawing_all_at_once(byte_tokenizer, tmp_path):
    engine = half_right(byte_tokenizer)
    run(evaluation(n=2), served(engine, byte_tokenizer), tmp_path / "grown", {})
    grown = run(evaluation(n=5, k=(1, 5)), served(engine, byte_tokenizer), tmp_path / "grown", {})
    assert engine.num_samples == 50
    whole = run(evaluation(n=5, k=(1, 5)), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "whole", {})
    assert without_commit(grown) == without_commit(whole)
    assert (tmp_path / "grown" / SAMPLES).read_bytes() == (tmp_path / "whole" / SAMPLES).read_bytes()


def test_a_smaller_n_uses_the_first_samples_and_keeps_the_others(byte_tokenizer, tmp_path):
    engine = half_right(byte_tokenizer)
    run(evaluation(n=5), served(engine, byte_tokenizer), tmp_path, {})
    fewer = run(evaluation(n=2), served(engine, byte_tokenizer), tmp_path, {})
    assert engine.num_samples == 50
    assert fewer["counts"]["samples"] == 20
    assert len(read_samples(tmp_path)) == 20
    assert sum(1 for _ in read_jsonl(tmp_path / SAMPLES)) == 50


@pytest.mark.parametrize("polls", [0, 1, 4, 9])
def test_a_run_killed_at_any_moment_continues_to_the_same_result(byte_tokenizer, tmp_path, polls):
    whole = run(evaluation(n=3), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "whole", {})
    engine = half_right(byte_tokenizer)
    with pytest.raises(Killed):
        run(evaluation(n=3), served(DyingEngine(engine, polls), byte_tokenizer), tmp_path / "killed", {})
    assert sum(1 for _ in read_jsonl(tmp_path / "killed" / LOG)) == 3 * polls
    with open(tmp_path / "killed" / LOG, "a") as file:
        file.write('{"key": "torn')  # the line that was being written
    engine.close()
    resumed = run(evaluation(n=3), served(engine, byte_tokenizer), tmp_path / "killed", {})
    assert engine.num_samples == 30
    assert without_commit(resumed) == without_commit(whole)
    assert (tmp_path / "killed" / SAMPLES).read_bytes() == (tmp_path / "whole" / SAMPLES).read_bytes()
    assert not (tmp_path / "killed" / LOG).exists()


def slow_evaluation(tokenizer, folder) -> None:
    """Run in a process of its own, which is killed."""
    engine = half_right(tokenizer)
    poll = engine.poll
    engine.poll = lambda: time.sleep(0.004) or poll()  # type: ignore[method-assign]
    run(evaluation(LONG, n=3), served(engine, tokenizer), folder, {})


def test_ten_kills_at_random_moments_do_not_change_the_result(byte_tokenizer, tmp_path):
    whole = run(evaluation(LONG, n=3), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "whole", {})
    rng, lines = random.Random(0), [0]
    log = tmp_path / "killed" / LOG
    for _ in range(10):
        process = multiprocessing.get_context("fork").Process(
            target=slow_evaluation, args=(byte_tokenizer, tmp_path / "killed")
        )
        process.start()
        while process.is_alive() and num_lines(log) <= lines[-1]:
            time.sleep(0.005)
        time.sleep(0.1 * rng.random())
        process.kill()
        process.join()
        if log.exists():
            lines.append(num_lines(log))
    assert lines == sorted(lines)
    assert lines[-1] > 0 or (tmp_path / "killed" / SAMPLES).exists()
    resumed = run(evaluation(LONG, n=3), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "killed", {})
    assert without_commit(resumed) == without_commit(whole)
    assert (tmp_path / "killed" / SAMPLES).read_bytes() == (tmp_path / "whole" / SAMPLES).read_bytes()


def num_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def without_commit(results):
    """Work in the repository may go on while the tests run."""
    return {key: value for key, value in results.items() if key != "git_commit"}


def test_other_weights_sampling_or_prompts_never_reuse_a_sample(byte_tokenizer, tmp_path):
    def unfinished(*arguments):
        (tmp_path / RESULTS).unlink(missing_ok=True)
        run(*arguments, tmp_path, {})

    engine = half_right(byte_tokenizer)
    unfinished(evaluation(), served(engine, byte_tokenizer))
    other = half_right(byte_tokenizer)
    other.version = "other-weights"
    unfinished(evaluation(), served(other, byte_tokenizer))
    assert other.num_samples == 10
    unfinished(evaluation(), served(engine, byte_tokenizer, replace(TEMPLATE, user="{question} =\n")))
    assert engine.num_samples == 20
    longer = evaluation()
    unfinished(replace(longer, sampling=replace(longer.sampling, max_tokens=65)), served(engine, byte_tokenizer))
    assert engine.num_samples == 30
    assert sum(1 for _ in read_jsonl(tmp_path / SAMPLES)) == 40


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"sampling": SamplingConfig(temperature=0.0, max_tokens=32)}, r"sampling.max_tokens \(64, now 32\)"),
        ({"sampling": SamplingConfig(temperature=0.0, max_tokens=64, seed=1)}, "sampling.seed"),
        ({"sampling": SamplingConfig(temperature=0.0, max_tokens=64, top_p=0.9)}, "sampling.top_p"),
        ({"data": TaskData(tuple(PROBLEMS[:4]), "here", "0", 10)}, r"limit.problems \(None, now 4; limit.of"),
        ({"data": TaskData(tuple(PROBLEMS), "here", "1")}, "data"),
        ({"search": MCTS()}, "search.class"),
    ],
)
def test_results_of_another_question_are_never_overwritten(byte_tokenizer, tmp_path, changed, named):
    server = served(half_right(byte_tokenizer), byte_tokenizer)
    run(evaluation(), server, tmp_path, {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=rf"results.json: is of another .*{named}.*choose another output"):
        run(replace(evaluation(), **changed), server, tmp_path, {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_results_of_an_earlier_version_are_not_overwritten_and_its_samples_stay(byte_tokenizer, tmp_path, caplog):
    server = served(half_right(byte_tokenizer), byte_tokenizer)
    run(evaluation(), server, tmp_path, {})
    results = json.loads((tmp_path / RESULTS).read_text())
    write_json(
        tmp_path / RESULTS, {key: value for key, value in results.items() if key not in ("provenance", "sha256")}
    )
    with pytest.raises(InputError, match=r"results.json: written by a version that did not write down what made it"):
        run(evaluation(), server, tmp_path, {})
    (tmp_path / RESULTS).unlink()
    old = [{**row, "key": f"old-{number}", "provenance": ""} for number, row in read_jsonl(tmp_path / SAMPLES)]
    write_rows(tmp_path / SAMPLES, old)
    run(evaluation(), server, tmp_path, {})
    assert server.engine.num_samples == 20
    assert sum(row["key"].startswith("old-") for _, row in read_jsonl(tmp_path / SAMPLES)) == 10
    assert "10 samples are of a version that did not write down what drew them" in caplog.text


def test_only_graded_otherwise_the_results_before_are_kept_under_another_name(byte_tokenizer, tmp_path, caplog):
    engine = half_right(byte_tokenizer)
    plain = run(evaluation(n=4), served(engine, byte_tokenizer), tmp_path, {})
    ranked = run(evaluation(n=4, reward=ArithmeticSteps()), served(engine, byte_tokenizer), tmp_path, {})
    assert engine.num_samples == 40
    assert json.loads((tmp_path / "results-2.json").read_text()) == plain
    assert json.loads((tmp_path / RESULTS).read_text()) == ranked
    assert "results.json: was made with another reward.class" in caplog.text


def test_draws_of_a_folder_beside_are_used_and_left_there(byte_tokenizer, tmp_path):
    engine = half_right(byte_tokenizer)
    run(evaluation(n=4), served(engine, byte_tokenizer), tmp_path / "a", {})
    other = evaluation(n=5, reward=ArithmeticSteps())
    found = run(other, served(engine, byte_tokenizer), tmp_path / "b", {}, beside=[tmp_path / "a"])
    assert engine.num_samples == 50
    fresh = run(other, served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "fresh", {})
    assert without_commit(found) == without_commit(fresh)
    assert (tmp_path / "b" / SAMPLES).read_bytes() == (tmp_path / "fresh" / SAMPLES).read_bytes()


def test_a_limited_run_is_marked_wherever_its_number_appears(byte_tokenizer, tmp_path, capsys):
    server = served(half_right(byte_tokenizer), byte_tokenizer)
    some = TaskData(tuple(PROBLEMS[:4]), "here", "0", 10)
    folders = [tmp_path / "some", tmp_path / "all"]
    limited = run(replace(evaluation(), data=some), server, folders[0], {})
    whole = run(evaluation(), server, folders[1], {})
    said = "only the first 4 of 10 problems"
    assert (limited["limit"], whole["limit"]) == ({"problems": 4, "of": 10}, None)
    assert table(limited, folders[0]).startswith(f"sums: {said}, 4 samples")
    assert table(whole, folders[1]).startswith("sums: 10 problems, 10 samples")
    for results, folder in zip((limited, whole), folders, strict=True):
        record(results, folder)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert {row["folder"]: row["limit"] for row in rows} == {"some": said, "all": ""}
    compare(*folders)
    assert f"({folders[0]} is of {said})" in capsys.readouterr().out
    assert page_of(folders[0], "some", BlockWriter(BytesIO()), Choice())[0]["name"] == f"some ({said})"
    assert to_inspect_log(folders[0], tmp_path)["eval"]["config"]["limit"] == 4


def test_other_programs_names_of_metrics_are_understood_and_the_mean_has_its_standard_error(byte_tokenizer, tmp_path):
    folder = tmp_path / "a"
    results = run(evaluation(n=4, k=(1, 4)), served(half_right(byte_tokenizer), byte_tokenizer), folder, {})
    values = list(problem_values(folder, "accuracy").values())
    error = np.std(values, ddof=1) / len(values) ** 0.5
    assert results["metrics"]["accuracy"]["error"] == pytest.approx(error, abs=1e-6)
    assert f"(avg@4, standard error {error:.4f})" in table(results, folder)
    assert own_name("avg@64") == "accuracy"
    assert own_name("cons@4") == "maj@4"
    assert own_name("pass@4") == "pass@4"
    assert compare(folder, folder, "cons@4", output=tmp_path / "test.json") == 0
    assert json.loads((tmp_path / "test.json").read_text())["metric"] == "maj@4"


def test_no_cell_of_the_table_is_a_formula(byte_tokenizer, tmp_path):
    folder = tmp_path / '=HYPERLINK("http:x")'
    results = run(evaluation(), served(half_right(byte_tokenizer), byte_tokenizer), folder, {})
    record({**results, "task": "@sum", "engine": "+1", "hashes": {**results["hashes"], "weights": "-1"}}, folder)
    [row, *_] = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert row["folder"] == f"'{folder.name}"
    assert (row["task"], row["engine"], row["weights"]) == ("'@sum", "'+1", "'-1")
    assert float(row["value"]) == results["metrics"]["accuracy"]["value"]


def to_inspect_log(folder, output):
    return json.loads(to_inspect(folder, output, lambda problem: problem.question).read_text())


def test_another_grader_or_reward_needs_no_new_samples(byte_tokenizer, tmp_path):
    engine = half_right(byte_tokenizer)
    plain = run(evaluation(n=4), served(engine, byte_tokenizer), tmp_path, {})
    ranked = run(evaluation(n=4, k=(1, 2), reward=ArithmeticSteps()), served(engine, byte_tokenizer), tmp_path, {})
    assert engine.num_samples == 40
    assert not any("/" in name for name in plain["metrics"])
    assert {"reward@2/prm", "reward@2/answer+prm", "weighted_maj@2/prm", "selection_loss@2/prm"} <= set(
        ranked["metrics"]
    )
    assert ranked["metrics"]["selection_loss@2/answer+prm"]["value"] == 0.0


class ShortIsGood:
    """As a user writes it: it looks at the verdicts and says nothing about it."""

    def __call__(self, problems, responses, correct):
        return [Score(right - 0.01 * len(response.text)) for response, right in zip(responses, correct, strict=True)]


@pytest.mark.parametrize("reward", [Outcome(), ShortIsGood(), WeightedSum(ShortIsGood())])
def test_what_may_see_the_gold_answer_is_never_reported_as_a_reward_at_test_time(byte_tokenizer, tmp_path, reward):
    server = served(half_right(byte_tokenizer), byte_tokenizer)
    results = run(evaluation(n=4, k=(1, 4), reward=reward), server, tmp_path, {})
    assert not [name for name in results["metrics"] if "prm" in name]
    assert results["metrics"]["reward@4/answer"]["value"] == results["metrics"]["pass@4"]["value"]
    assert "sees the gold answer, or does not say that it does not" in table(results, tmp_path)
    assert problem_values(tmp_path, "reward@4/answer")
    with pytest.raises(InputError, match="no metric 'reward@4/prm'"):
        problem_values(tmp_path, "reward@4/prm")


def test_a_sum_with_a_process_reward_is_ranked_by_what_does_not_see_the_gold(byte_tokenizer, tmp_path):
    values = {}
    for name, reward in (("sum", WeightedSum(ArithmeticSteps())), ("alone", ArithmeticSteps())):
        server = served(half_right(byte_tokenizer), byte_tokenizer)
        results = run(evaluation(n=4, k=(1, 4), reward=reward), server, tmp_path / name, {})
        values[name] = {key: metric["value"] for key, metric in results["metrics"].items()}
        assert "sees the gold" not in table(results, tmp_path)
    assert {key for key in values["sum"] if "/prm" in key} >= {"reward@4/prm", "gv_gap/prm"}
    assert values["sum"] == values["alone"]


def test_any_of_several_golds_makes_a_response_right(byte_tokenizer, tmp_path):
    problems = [Problem("root", "x^2 = 9", "3", accepted_answers=("3", "-3"))]
    engine = ScriptedEngine(byte_tokenizer, lambda prompt, seed: "#### -3")
    results = run(evaluation(problems), served(engine, byte_tokenizer), tmp_path, {})
    assert results["metrics"]["accuracy"]["value"] == 1.0


def test_results_hold_what_a_reader_needs_to_repeat_them(byte_tokenizer, tmp_path):
    results = run(evaluation(), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path, {"task": "sums"})
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["protocol"]["name"] == "test"
    assert results["grader"]["name"] == "strict"
    assert results["engine"] == "scripted 1"
    assert results["hashes"]["weights"] == "scripted-weights"
    assert {"torch", "transformers", "python"} <= set(results["versions"])
    assert results["sampling"]["seed"] == 0
    assert set(results["by"]) == {"level"}
    assert results["by"]["level"]["0"]["problems"] == 5


def test_problems_of_one_cluster_count_together_in_every_part_of_the_results(byte_tokenizer, tmp_path):
    problems = [replace(each, cluster=f"c{int(each.level)}{i // 4}") for i, each in enumerate(sums(40))]
    engine = ScriptedEngine(
        byte_tokenizer, lambda prompt, seed: f"#### {int(byte_tokenizer.decode(prompt).split(' ')[0]) // 8 * 8 + 1}"
    )
    results = run(evaluation(problems), served(engine, byte_tokenizer), tmp_path / "e", {})
    even = [float(problem.answer == str(i // 8 * 8 + 1)) for i, problem in enumerate(problems) if i % 2 == 0]
    wanted = mean_interval(even, clusters=[problem.cluster for problem in problems[::2]])
    found = results["by"]["level"]["0"]
    assert (found["low"], found["high"]) == (round(wanted.low, 6), round(wanted.high, 6))
    said = table(results, tmp_path)
    assert "accuracy by level" in said
    assert f"[{wanted.low:.4f}, {wanted.high:.4f}]  20 problems" in said
    many = table({**results, "by": {"subject": {str(i): found for i in range(40)}}}, tmp_path)
    assert "accuracy by subject: 40 of them" in many


def test_samples_stand_with_their_problem_verdict_and_tokens(byte_tokenizer, tmp_path):
    run(evaluation(n=2), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path, {})
    samples = read_samples(tmp_path)
    assert [(s.problem_id, s.index) for s in samples[:3]] == [("sum/0", 0), ("sum/0", 1), ("sum/1", 0)]
    assert samples[0].problem.question == "0 + 1"
    assert samples[0].answer in ("0", "1")
    assert byte_tokenizer.decode(samples[0].response.token_ids[:-1]) == samples[0].response.text


def test_a_second_process_may_not_write_into_the_same_directory(byte_tokenizer, tmp_path):
    server = served(half_right(byte_tokenizer), byte_tokenizer)
    with (
        SampleStore(tmp_path, server, SamplingConfig(), None, server.provenance()),
        pytest.raises(InputError, match="is writing here"),
    ):
        run(evaluation(), server, tmp_path, {})


def test_what_cannot_be_answered_is_refused_before_anything_is_drawn(byte_tokenizer, tmp_path):
    engine = half_right(byte_tokenizer)
    server = served(engine, byte_tokenizer)
    with pytest.raises(InputError, match="k = 8 needs 1 <= k <= n, and n is 4"):
        run(evaluation(n=4, k=(1, 8)), server, tmp_path, {})
    greedy = evaluation(n=1)
    with pytest.raises(InputError, match="n is 2 at temperature 0"):
        run(replace(greedy, sampling=replace(greedy.sampling, n=2)), server, tmp_path, {})
    engine.max_context = 5
    with pytest.raises(InputError, match=r"problem 'sum/0': the prompt has \d+ tokens and the context is 5"):
        run(evaluation(), server, tmp_path, {})
    assert engine.num_samples == 0


def test_prompts_that_are_too_long_are_left_out_and_counted_where_asked(byte_tokenizer, tmp_path):
    engine = half_right(byte_tokenizer)
    dispatcher = served(engine, byte_tokenizer)
    problems = (*PROBLEMS, Problem("long", "7 + 1 " * 50, "8"))
    engine.max_context = 100
    with pytest.raises(InputError, match=r"problem 'long': .*so it is with 1 of 11 prompts.*--too_long skip"):
        run(evaluation(problems), dispatcher, tmp_path, {})
    results = run(evaluation(problems), dispatcher, tmp_path, {}, too_long="skip")
    assert (results["counts"]["problems"], results["counts"]["too_long"], results["limit"]) == (10, 1, None)
    assert results["metrics"]["accuracy"]["problems"] == 10
    assert [line for line in caveats(results) if "1 of 11 prompts did not fit" in line]
    engine.max_context = 5
    with pytest.raises(InputError, match="no other prompt fits"):
        run(evaluation(), dispatcher, tmp_path / "none", {}, too_long="skip")


def test_an_example_of_the_prompt_is_not_asked(byte_tokenizer, tmp_path):
    template = replace(TEMPLATE, few_shot=(("3  + 1", "#### 4"),))
    with pytest.raises(InputError, match="problem 'sum/3' is one of the examples that protocol 'test' shows"):
        run(evaluation(), served(half_right(byte_tokenizer), byte_tokenizer, template), tmp_path, {})


def test_thoughts_that_were_cut_off_are_counted_apart_and_the_last_words_say_what_to_do(byte_tokenizer, tmp_path):
    class Cut(ScriptedEngine):
        def poll(self):
            return [
                replace(result, completions=tuple(replace(c, finish_reason="length") for c in result.completions))
                for result in super().poll()
            ]

    def answer(prompt, seed):
        number = int(byte_tokenizer.decode(prompt).split(" ")[0])
        return ["<think> 1", "<think> 1 </think> so", "no thought"][number % 3]

    results = run(evaluation(), served(Cut(byte_tokenizer, answer), byte_tokenizer), tmp_path / "tags", {})
    assert (results["counts"]["truncated"], results["counts"]["truncated_thoughts"]) == (10, 4)
    [cut] = [line for line in caveats(results) if "cut off" in line]
    assert cut == (
        "100% of the responses were cut off at 64 tokens, 40% while thinking (or where the context ended); raise "
        "--max_tokens, or end thoughts with --thinking_budget."
    )
    opened = replace(TEMPLATE, user="{question}\n<think>\n")
    engine = Cut(byte_tokenizer, answer)
    results = run(evaluation(), served(engine, byte_tokenizer, opened), tmp_path / "opened", {})
    assert results["counts"]["truncated_thoughts"] == 7  # all that did not end the thought that the prompt began
    words = closing_words([(results, tmp_path / "opened"), (results, tmp_path / "tags")])
    heads = ["task", "metric", "value", "95 % interval", "problems", "samples", "truncated"]
    assert re.split(" {2,}", words.splitlines()[1]) == heads
    assert words.endswith(f"look at it: harness report {tmp_path} --output report.html")


def test_an_evaluation_without_the_settings_that_came_later_is_continued(byte_tokenizer, tmp_path):
    """Folders of before min-p, repetition penalty and thinking budget have hashes without them."""
    first = evaluation(n=2)
    plain = json.loads(json.dumps(identity(first.sampling)))
    assert not {"min_p", "repetition_penalty", "thinking_budget"} & plain.keys()
    run(first, served(half_right(byte_tokenizer), byte_tokenizer), tmp_path, {})
    for changed in ({"min_p": 0.1}, {"repetition_penalty": 1.1}, {"thinking_budget": 10}, {"stop": ("#",)}):
        other = replace(first, sampling=replace(first.sampling, **changed))
        with pytest.raises(InputError, match=f"is of another sampling.{next(iter(changed))} "):
            run(other, served(half_right(byte_tokenizer), byte_tokenizer), tmp_path, {})


def test_finding_no_directory_to_write_is_one_sentence(byte_tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        run(evaluation(), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "file" / "out", {})


class Pairs:
    """A search that is no independent sampling: two whole responses, drawn one after the other."""

    def __call__(self, rollout, sampling):
        def search():
            from harness.types import Generate, Response

            found = []
            for _ in range(2):
                [[completion]] = yield Generate(rollout.problem, (Response(),), replace(sampling, n=1))
                found.append(Response().extend(completion))
            return found

        return search()


def test_a_search_is_kept_and_continued_problem_by_problem(byte_tokenizer, tmp_path):
    engine = half_right(byte_tokenizer)
    with pytest.raises(Killed):
        run(evaluation(search=Pairs()), served(DyingEngine(engine, 13), byte_tokenizer), tmp_path, {})
    drawn = engine.num_samples
    engine.close()
    finished = sum(1 for _ in read_jsonl(tmp_path / LOG)) // 2
    results = run(evaluation(search=Pairs()), served(engine, byte_tokenizer), tmp_path, {})
    assert engine.num_samples - drawn == 2 * (10 - finished)
    assert results["counts"]["samples"] == 20
    assert results["search"]["class"].endswith("Pairs")


@pytest.mark.parametrize("protocol", ["gsm8k_few_shot", "math_few_shot", "choice_few_shot", "boxed", "zero_shot"])
def test_prompts_are_built_once_and_do_not_depend_on_the_engine(byte_tokenizer, protocol):
    template = find_template(protocol)
    first, second = half_right(byte_tokenizer), ScriptedEngine(byte_tokenizer, lambda prompt, seed: "")
    servers = [Dispatcher(first, byte_tokenizer, template), Dispatcher(second, byte_tokenizer, template)]
    problem = sums(1)[0]
    assert servers[0].prompt_ids(problem) is servers[0].prompt_ids(problem)
    assert servers[0].prompt_ids(problem) == servers[1].prompt_ids(problem)


class SometimesNothing:
    """A search that gives up on every other problem and else returns a wrong and a right response, best first."""

    def __call__(self, rollout, sampling):
        def search():
            from harness.types import Completion, Generate, Response

            [[completion]] = yield Generate(rollout.problem, (Response(),), replace(sampling, n=1))
            number = int(rollout.problem.id.rpartition("/")[2])
            right = Response().extend(replace(completion, text=f"#### {number + 1}"))
            return [right, Response().extend(Completion("#### x"))] if number % 2 else []

        return search()


def test_a_search_is_judged_by_its_first_response_and_by_giving_up(byte_tokenizer, tmp_path):
    searched = evaluation(search=SometimesNothing(), k=(1, 2))
    searched = replace(searched, metrics=replace(searched.metrics, searched=True))
    results = run(searched, served(half_right(byte_tokenizer), byte_tokenizer), tmp_path, {})
    values = {name: metric["value"] for name, metric in results["metrics"].items()}
    assert (values["first"], values["accuracy"], values["pass@2"], values["no_answer"]) == (0.5, 0.25, 0.5, 0.5)
    assert (values["pass@all"], values["maj@all"]) == (0.5, 0.25)  # a tie is won half the time


def test_a_search_that_gave_up_is_not_run_again_and_counts_in_a_comparison(byte_tokenizer, tmp_path):
    searched = evaluation(search=SometimesNothing(), k=(1,))
    searched = replace(searched, metrics=replace(searched.metrics, searched=True))
    engine = half_right(byte_tokenizer)
    first = run(searched, served(engine, byte_tokenizer), tmp_path / "a", {})
    drawn, content = engine.num_samples, (tmp_path / "a" / SAMPLES).read_bytes()
    assert without_commit(run(searched, served(engine, byte_tokenizer), tmp_path / "a", {})) == without_commit(first)
    assert (engine.num_samples, (tmp_path / "a" / SAMPLES).read_bytes()) == (drawn, content)
    assert (first["counts"]["samples"], first["counts"]["given_up"]) == (10, 5)
    assert len(read_samples(tmp_path / "a")) == 10
    assert [len(rollout.responses) for rollout in read_rollouts(tmp_path / "a")] == [0, 2] * 5
    for metric in ("first", "maj@all", "pass@1"):
        values = problem_values(tmp_path / "a", metric)
        assert len(values) == 10
        assert sum(values.values()) / 10 == first["metrics"][metric]["value"]


def test_searches_that_return_different_numbers_are_all_counted(byte_tokenizer, tmp_path):
    """Whatever a metric chooses among no response is wrong, and among one response is that one."""
    answers = [[], ["1"], ["9"], ["9", "1"], ["1", "1", "9"]]
    rewards = {"1": 0.5, "9": 0.0}
    rollouts = [
        Rollout(Problem(str(i), "q", "1"), tuple(ScoredResponse(Response((a,)), a, a == "1", rewards[a]) for a in row))
        for i, row in enumerate(answers)
    ]
    found = evaluate(rollouts, MetricConfig((1, 2), (2,), searched=True), rankings_of(0.0))
    assert all(found[name].count == 5 for name in ("pass@all", "maj@all", "maj@2", "reward@all/prm", "pass@2-2"))
    assert found["pass@all"].value == pytest.approx(3 / 5)
    assert found["reward@all/prm"].value == pytest.approx(3 / 5)
    assert found["maj@all"].value == pytest.approx((1 + 0.5 + 1) / 5)
    assert found["weighted_maj@all/prm"].value == pytest.approx(3 / 5)
    assert found["selection_loss@all/prm"].value == pytest.approx(0)
    # Two samples of three: both right, or one of each, which the reward decides.
    assert found["reward@2/prm"].value == pytest.approx(3 / 5)
    assert "maj@1" not in found


def test_shares_of_right_draws_are_reported(byte_tokenizer, tmp_path):
    task = replace(evaluation(n=4, k=(1, 4)), metrics=MetricConfig((1, 4), tau=(0.5, 1.0)))
    metrics = run(task, served(half_right(byte_tokenizer), byte_tokenizer), tmp_path, {})["metrics"]
    assert metrics["gpass@4-1"]["value"] <= metrics["gpass@4-0.5"]["value"] <= metrics["pass@4"]["value"]
    assert metrics["gpass@1-0.5"]["value"] == metrics["pass@1"]["value"]
    assert "mgpass@4" in metrics
    assert "mgpass@1" not in metrics
    assert problem_values(tmp_path, "gpass@4-0.5").keys() == problem_values(tmp_path, "accuracy").keys()


def test_the_variance_is_split_into_that_of_problems_and_of_samples(byte_tokenizer, tmp_path):
    results = run(evaluation(n=4, k=(1, 4)), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "a", {})
    correct = [sum(row.correct for row in rollout.responses) for rollout in read_rollouts(tmp_path / "a")]
    within = np.mean([c * (4 - c) / 12 for c in correct])
    assert results["variance"]["samples"] == pytest.approx(within / 4 / len(correct), abs=1e-9)
    assert "is from drawing samples" in table(results, tmp_path)
    alone = run(evaluation(), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "b", {})
    assert alone["variance"] is None


def test_long_responses_are_graded_without_waiting_for_others(byte_tokenizer, tmp_path, monkeypatch):
    """Of responses that have many tokens memory holds those of a few problems, when drawn and when graded again."""
    groups = []
    graded = collect_module.verdicts

    def counted(rollouts, *rest):
        groups.append(len(rollouts))
        return graded(rollouts, *rest)

    monkeypatch.setattr(collect_module, "verdicts", counted)
    dispatcher = served(half_right(byte_tokenizer), byte_tokenizer)
    run(evaluation(n=4), dispatcher, tmp_path / "short", {})
    assert max(groups) == len(PROBLEMS)
    for module in (collect_module, run_module):
        monkeypatch.setattr(module, "GROUP_TOKENS", 40)  # a problem's four answers have 24 or 28
    for _ in ("drawn", "graded again"):
        groups.clear()
        run(evaluation(n=4), dispatcher, tmp_path / "long", {})
        assert max(groups) == 2
        assert sum(groups) == len(PROBLEMS)


HOSTILE = 'she said: "}, "correct": true, "problem": {"id": "x"}}\\", "token_ids": [1, 2]'


def test_what_is_read_of_samples_alone_is_what_all_of_them_says(tmp_path):
    """Whatever their texts, ids and answers look like, and whoever wrote the lines."""
    problems = [Problem('a "}, "of": ', HOSTILE, "1"), Problem("b\\", "?", HOSTILE, cluster="c"), Problem("ü", "", "")]
    bare = Response(("one ", HOSTILE), "stop", (), -1.0)
    whole = replace(bare, token_ids=(7,) * 3, step_values=(0.5, 1.0), inserted=((1, "}, "),), finish_reason="length")
    rows = [
        Sample("k1", problems[0].id, 0, whole, 0, 0, HOSTILE, True, "ok", 0.5, problems[0], "p"),
        Sample("k2", problems[0].id, 1, bare, 0, 0, None, False, "no_answer", 0.0, problems[0], "p"),
        Sample("k3", problems[1].id, 0, replace(whole, token_ids=(5,)), 2, 9, "}", True, "ok", 1.0, problems[1], "p"),
        Sample("k4", problems[1].id, 1, whole, 2, 9, "}", True, "ok", 1.0, problems[1], "p"),
        Sample("k5", problems[2].id, 0, Response(), GAVE_UP, 4, problem=problems[2]),
    ]
    document = {"task": "t", "metrics": {}, "counts": {"samples": 4, "given_up": 1}, "hashes": {}, "protocol": {}}
    write_json(tmp_path / RESULTS, sealed(document))
    written = [to_dict(row) for row in rows]
    for layout in (written, [dict(reversed(row.items())) for row in written]):
        write_rows(tmp_path / SAMPLES, layout)
        found = read_rollouts(tmp_path)
        assert [rollout.problem for rollout in found] == problems
        assert [row.answer for row in found[0].responses] == [HOSTILE, None]
        short = [
            replace(
                rollout,
                responses=tuple(
                    replace(row, response=replace(row.response, token_ids=(-1,) * len(row.response.token_ids)))
                    for row in rollout.responses
                ),
            )
            for rollout in found
        ]
        assert list(stream_rollouts(tmp_path, "texts")) == short
        verdicts = [
            (rollout.problem, [(row.answer, row.correct, row.reward, row.status) for row in rollout.responses])
            for rollout in stream_rollouts(tmp_path, "verdicts")
        ]
        assert verdicts == [
            (rollout.problem, [(row.answer, row.correct, row.reward, row.status) for row in rollout.responses])
            for rollout in found
        ]
    write_rows(tmp_path / SAMPLES, [*written[:3], {**written[3], "correct": "yes"}, written[4]])
    for what in ("all", "texts", "verdicts"):
        with pytest.raises(InputError, match=re.escape(f"{SAMPLES}:4: 'correct': expected bool, found 'yes'")):
            list(stream_rollouts(tmp_path, what))
