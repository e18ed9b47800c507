import json

from harness.evals.export import to_inspect, to_lm_eval
from harness.evals.run import run
from tests.evals.test_run import evaluation, half_right, served


def test_lm_eval_samples_hold_one_line_per_problem(byte_tokenizer, tmp_path):
    run(evaluation(n=2), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "run", {})
    path = to_lm_eval(tmp_path / "run", tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert path.name == "samples_sums.jsonl"
    assert len(lines) == 10
    assert {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "exact_match"} <= set(lines[0])
    assert len(lines[0]["resps"][0]) == 2
    assert lines[0]["exact_match"] == 0.5


def test_inspect_logs_hold_one_sample_per_response(byte_tokenizer, tmp_path):
    results = run(evaluation(n=2), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "run", {})
    log = json.loads(to_inspect(tmp_path / "run", tmp_path).read_text())
    assert [(sample["id"], sample["epoch"]) for sample in log["samples"][:2]] == [("sum/0", 1), ("sum/0", 2)]
    grades = [sample["scores"]["strict"]["value"] for sample in log["samples"]]
    assert grades.count("C") == results["counts"]["correct"]
