"""Grading stored samples again."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset

from harness.commands.grade import grade
from harness.errors import InputError


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_flat_rows_are_graded_and_statuses_counted_apart(tmp_path, capsys):
    file = _write(
        tmp_path / "s.jsonl",
        [
            {"text": r"\boxed{5}", "gold": "5"},
            {"text": "I have no idea at all", "gold": "5"},
            {"text": "#### 4", "gold": "5"},
        ],
    )
    grade(file)
    assert "strict-3: 1 of 3 right (33.33 %); 1 no_answer, 0 parse_failure, 0 timeout" in capsys.readouterr().out


def test_rollouts_and_samples_are_read(tmp_path, capsys):
    response = {"steps": ["so ", r"\boxed{5}"], "finish_reason": "stop"}
    rows = [
        {
            "problem": {"id": "a", "question": "?", "answer": "5"},
            "responses": [{"response": response, "correct": True}],
        },
        {"problem": {"id": "b", "question": "?", "answer": "6"}, "response": response, "key": "k", "correct": True},
    ]
    grade(_write(tmp_path / "r.jsonl", rows))
    out = capsys.readouterr().out
    assert "1 of 2 right" in out
    assert "1 of 2 verdicts differ from those on file" in out


def test_explain_names_the_rule_and_against_lists_disagreements(tmp_path, capsys):
    file = _write(
        tmp_path / "s.jsonl", [{"text": r"\boxed{500}", "gold": "5"}, {"text": r"\boxed{0.5}", "gold": "1/2"}]
    )
    grade(file, explain=True, against="rstar")
    out = capsys.readouterr().out
    assert "right by numeric" in out
    assert "strict and rstar disagree on 1 samples" in out
    assert "right by rstar" in out


def test_options_of_a_choice_task_and_cut_responses_are_read_as_in_an_evaluation(tmp_path, capsys):
    choices = ["A) 10", "B) 12", "C) 14"]
    cut = {"steps": ["First 3 + 4 = 7. Then"], "finish_reason": "length"}
    rows = [
        {"text": r"It is \boxed{12}.", "gold": "B", "choices": choices},
        {"text": r"It is \boxed{14}.", "gold": "B", "choices": choices},
        {
            "problem": {"id": "a", "question": "?", "answer": "B", "choices": choices},
            "response": {"steps": ["#### 12"]},
        },
        {"problem": {"id": "b", "question": "?", "answer": "7"}, "response": cut},
    ]
    grade(_write(tmp_path / "s.jsonl", rows), explain=True)
    out = capsys.readouterr().out
    assert "2 of 4 right (50.00 %); 1 no_answer" in out
    assert "s.jsonl:1: right by exact; gold 'B' read as 'B', the option '12'" in out


@pytest.mark.parametrize(
    ("kwargs", "message"), [({"grader": "x"}, "Unknown grader 'x'"), ({"protocol": "x"}, "unknown answer protocol 'x'")]
)
def test_unknown_names_are_refused(tmp_path, kwargs, message):
    file = _write(tmp_path / "s.jsonl", [{"text": "5", "gold": "5"}])
    with pytest.raises(InputError, match=message):
        grade(file, **kwargs)


def test_a_row_without_a_response_is_refused_with_its_line(tmp_path):
    with pytest.raises(InputError, match=r"s\.jsonl:2"):
        grade(_write(tmp_path / "s.jsonl", [{"text": "5", "gold": "5"}, {"question": "?"}]))


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no samples"):
        grade(_write(tmp_path / "s.jsonl", []))


def test_samples_of_other_harnesses_are_graded_again_with_a_code_for_each_difference(tmp_path, capsys):
    lm_eval = {
        "doc_id": 0,
        "doc": {},
        "target": "0.5",
        "resps": [["It is 1/2."]],
        "filtered_resps": ["1"],
        "exact_match": 0.0,
    }
    grade(_write(tmp_path / "samples_gsm8k.jsonl", [lm_eval, lm_eval | {"resps": [[""]], "exact_match": 1.0}]))
    out = capsys.readouterr().out
    assert "2 of 2 verdicts differ from those on file" in out
    assert "accepted:numeric: 1: " in out
    assert "refused:no_answer: 1: " in out

    sample = {"target": "B", "output": {"completion": "ANSWER: B"}, "scores": {"choice": {"value": "C"}}}
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"samples": [sample, sample | {"scores": {"choice": {"value": "I"}}}]}))
    grade(log)
    out = capsys.readouterr().out
    assert "2 of 2 right" in out
    assert "accepted:exact: 1: " in out

    details = tmp_path / "details.parquet"
    row = {
        "doc": {"query": "?", "choices": ["4", "5"], "gold_index": 1},
        "model_response": {"text": ["The answer is 5."]},
        "metric": {"em": 1},
    }
    Dataset.from_list([row]).to_parquet(str(details))
    grade(details)
    assert "0 of 1 verdicts differ" in capsys.readouterr().out


def test_a_json_file_that_is_no_log_is_refused(tmp_path):
    file = tmp_path / "x.json"
    file.write_text("[]")
    with pytest.raises(InputError, match="holds no `samples`"):
        grade(file)
