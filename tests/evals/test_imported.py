"""Other programs' sample files as evaluations of ours; each is built here by what its format's documentation says."""

from __future__ import annotations

import json
import zipfile

import pytest
from datasets import Dataset

from harness.cli.main import main
from harness.commands.evaluate import compare
from harness.commands.import_samples import import_samples
from harness.errors import InputError
from harness.evals.compare import compare_folders
from harness.evals.samples import read_results, read_rollouts
from tests.report.test_runs import page_of

QUESTIONS = [f"Ann has {i} apples\nand buys 1 more. How many?" for i in range(8)]
GOLDS = [str(i + 1) for i in range(8)]


def response(i: int, sample: int = 0) -> str:
    """Right for even problems in sample 0, for multiples of four in the others."""
    right = i % (4 if sample else 2) == 0
    return f"She has {i} + 1.\n\\boxed{{{i + 1 if right else 99}}}"


def right(i: int, sample: int = 0) -> bool:
    return i % (4 if sample else 2) == 0


@pytest.fixture
def task(tmp_path):
    """The task's own rows, with ids and levels that no other program knows."""
    path = tmp_path / "apples.jsonl"
    rows = [
        {"id": f"apple-{i}", "question": QUESTIONS[i], "answer": GOLDS[i], "level": str(i % 2), "subject": "fruit"}
        for i in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lm_eval(path):
    """`lm_eval --log_samples`: the document, the prompt, the responses; lines repeat for each filter of answers."""
    rows = [
        {
            "doc_id": i,
            "doc": {"question": QUESTIONS[i], "answer": f"so {i} + 1\n#### {GOLDS[i]}"},
            "target": f"so {i} + 1\n#### {GOLDS[i]}",
            "arguments": {"gen_args_0": {"arg_0": f"Q: {QUESTIONS[i]}\nA:", "arg_1": {"until": ["Q:"]}}},
            "resps": [[response(i)]],
            "filtered_resps": ["?"],
            "filter": name,
            "metrics": ["exact_match"],
            "exact_match": float(right(i)),
        }
        for name in ("strict-match", "flexible-extract")
        for i in range(8)
    ]
    file = path / "samples_apples_2026-01-01T00-00-00.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [file]


def lighteval(path):
    """Details of lighteval: columns doc, model_response and metric; the prompt holds the question."""
    rows = [
        {
            "doc": {
                "query": f"Solve it.\n\n{QUESTIONS[i]}\n\nAnswer:",
                "choices": [GOLDS[i]],
                "gold_index": 0,
                "id": str(i),
            },
            "model_response": {"text": [response(i)], "output_tokens": [[1, 2, 3]]},
            "metric": {"extractive_match": float(right(i))},
        }
        for i in range(8)
    ]
    file = path / "details_apples.parquet"
    Dataset.from_list(rows).to_parquet(str(file))
    return [file]


def inspect_samples():
    return [
        {
            "id": i,
            "epoch": 1,
            "input": [{"role": "system", "content": "Be short."}, {"role": "user", "content": QUESTIONS[i]}],
            "target": GOLDS[i],
            "messages": [],
            "output": {
                "model": "m",
                "choices": [{"message": {"role": "assistant", "content": response(i)}, "stop_reason": "stop"}],
                "completion": response(i),
            },
            "scores": {"match": {"value": "C" if right(i) else "I", "answer": "?"}},
            "metadata": {"level": 3},
        }
        for i in range(8)
    ]


def inspect_json(path):
    file = path / "log.json"
    file.write_text(json.dumps({"version": 2, "status": "success", "eval": {}, "samples": inspect_samples()}))
    return [file]


def inspect_eval(path):
    """Inspect's own format: a zip archive with a file for each sample."""
    file = path / "log.eval"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "status": "success"}))
        for sample in inspect_samples():
            archive.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
    return [file]


def nemo_skills(path, samples=1):
    """`output.jsonl`, or `output-rsN.jsonl` for each random seed."""
    files = []
    for sample in range(samples):
        file = path / (f"output-rs{sample}.jsonl" if samples > 1 else "output.jsonl")
        rows = [
            {
                "problem": QUESTIONS[i],
                "expected_answer": GOLDS[i],
                "generation": response(i, sample),
                "predicted_answer": "?",
                "symbolic_correct": right(i, sample),
            }
            for i in range(8)
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        files.append(file)
    return files


@pytest.mark.parametrize("make", [lm_eval, lighteval, inspect_json, inspect_eval, nemo_skills])
def test_every_format_gives_the_same_evaluation(make, task, tmp_path, capsys):
    files = make(tmp_path)
    assert import_samples(files, tmp_path / "out", task=str(task), model="theirs") == 0
    said = capsys.readouterr().out
    assert "0 of 8 verdicts differ from those on file" in said
    assert "accuracy by level" in said
    results = read_results(tmp_path / "out")
    assert results["metrics"]["accuracy"]["value"] == 0.5
    assert {name: each["value"] for name, each in results["by"]["level"].items()} == {"0": 1.0, "1": 0.0}
    assert results["counts"]["samples"] == 8
    assert not {"tokens", "entropy"} & results["metrics"].keys()
    rollouts = read_rollouts(tmp_path / "out")
    assert [rollout.problem.id for rollout in rollouts] == [f"apple-{i}" for i in range(8)]
    assert [row.correct for rollout in rollouts for row in rollout.responses] == [right(i) for i in range(8)]
    assert rollouts[3].responses[0].response.text == response(3)


def test_imported_samples_compare_with_others_and_stand_in_the_report(task, tmp_path, capsys):
    import_samples(lm_eval(tmp_path), tmp_path / "first", task=str(task), model="a")
    import_samples(nemo_skills(tmp_path, samples=4), tmp_path / "second", task=str(task), model="b")
    test, count = compare_folders(tmp_path / "first", tmp_path / "second")
    assert count == 8
    assert test.difference.value == pytest.approx((4 + 3 * 2) / 32 - 0.5)  # one seed as before, three at a quarter
    assert compare(tmp_path / "first", tmp_path / "second") == 0
    data, _ = page_of(tmp_path)
    assert data["models"] == ["a", "b"]
    assert data["tests"][0]["problems"] == 8
    assert read_results(tmp_path / "second")["metrics"]["pass@4"]["value"] == 0.5


def test_without_a_task_the_problems_are_the_files_own(tmp_path, capsys):
    assert main(["import", str(*inspect_json(tmp_path)), "--output", str(tmp_path / "out")]) == 0
    assert read_results(tmp_path / "out")["task"] == "log"
    [first, *_] = read_rollouts(tmp_path / "out")
    assert (first.problem.id, first.problem.question, first.problem.level) == ("0", QUESTIONS[0], "3")


def test_a_part_of_a_task_says_so(task, tmp_path, capsys):
    [file] = nemo_skills(tmp_path)
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:5]))
    import_samples([file], tmp_path / "out", task=str(task))
    assert "apples: only 5 of 8 problems" in capsys.readouterr().out


def test_what_cannot_be_imported_is_one_sentence(task, tmp_path):
    [file] = nemo_skills(tmp_path)
    options = {"output": tmp_path / "out", "task": str(task)}
    lines = file.read_text().splitlines(keepends=True)
    other = json.dumps({"problem": "What is 2?", "expected_answer": "2", "generation": "2"})
    cases = {
        "none of the 8 of task 'apples'": [*lines[:3], other],
        "problem 'apple-0' has 2 samples, most have 1": [*lines, lines[0]],
        "no response and gold answer found": ['{"problem": "What is 2?"}'],
        "scores of given options": [
            json.dumps({"doc_id": 0, "doc": {}, "target": "1", "resps": [[[-1.0, False]], [[-2.0, True]]]})
        ],
    }
    for message, content in cases.items():
        file.write_text("".join(content))
        with pytest.raises(InputError, match=message):
            import_samples([file], **options)
        assert not (tmp_path / "out" / "results.json").exists()
    file.write_text("".join(lines))
    with pytest.raises(InputError, match="no file given"):
        import_samples([], **options)
    with pytest.raises(InputError, match="one at a time"):
        import_samples([file], **{**options, "task": "math500,gsm8k"})
    import_samples([file], **options)
    with pytest.raises(InputError, match="holds the results of an evaluation"):
        import_samples([file], **options)
    broken = tmp_path / "broken.eval"
    broken.write_bytes(b"PK no archive")
    with pytest.raises(InputError, match="inspect log convert"):
        import_samples([broken], tmp_path / "other")
