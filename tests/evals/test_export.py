"""The formats of lm-evaluation-harness 0.4.13 and Inspect 0.3.285, as those packages write and read them."""

import hashlib
import json

from harness.evals.export import to_inspect, to_lm_eval
from harness.evals.run import run
from tests.evals.test_run import TEMPLATE, evaluation, half_right, served

LM_EVAL_FIELDS = (
    "doc_id doc target arguments resps filtered_resps filter metrics doc_hash prompt_hash target_hash exact_match"
)


def test_lm_eval_samples_hold_one_line_per_problem(byte_tokenizer, tmp_path):
    run(evaluation(n=2), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "run", {})
    path = to_lm_eval(tmp_path / "run", tmp_path, TEMPLATE.render)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    # Its readers take what stands between the first and the last underscore for the task.
    assert path.name[path.name.find("_") + 1 : path.name.rfind("_")] == "sums"
    assert len(lines) == 10
    first = lines[0]
    assert list(first) == LM_EVAL_FIELDS.split()
    assert first["arguments"]["gen_args_0"]["arg_0"] == "0 + 1 = ?\n"
    assert first["arguments"]["gen_args_0"]["arg_1"]["max_gen_toks"] == 64
    assert len(first["resps"]) == len(first["filtered_resps"]) == 1
    assert len(first["resps"][0]) == len(first["filtered_resps"][0]) == 2
    document = json.dumps(first["doc"], indent=2, ensure_ascii=False)
    assert first["doc_hash"] == hashlib.sha256(document.encode()).hexdigest()
    assert first["prompt_hash"] == hashlib.sha256(b"0 + 1 = ?\n").hexdigest()
    assert first["exact_match"] == 0.5


def test_inspect_logs_hold_one_sample_per_response(byte_tokenizer, tmp_path):
    results = run(evaluation(n=2), served(half_right(byte_tokenizer), byte_tokenizer), tmp_path / "run", {})
    log = json.loads(to_inspect(tmp_path / "run", tmp_path, TEMPLATE.render).read_text())
    assert [(sample["id"], sample["epoch"]) for sample in log["samples"][:2]] == [("sum/0", 1), ("sum/0", 2)]
    assert log["eval"]["dataset"] == {
        "name": "sums",
        "samples": 10,
        "sample_ids": [f"sum/{i}" for i in range(10)],
        "shuffled": False,
    }
    assert log["eval"]["model_generate_config"]["temperature"] == 1.0
    assert log["samples"][0]["messages"][0]["content"] == "0 + 1 = ?\n"
    assert log["samples"][0]["output"]["completion"] == log["samples"][0]["messages"][1]["content"]
    grades = [sample["scores"]["strict"]["value"] for sample in log["samples"]]
    assert grades.count("C") == results["counts"]["correct"]
