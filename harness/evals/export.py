"""Finished evaluations in the sample formats of lm-evaluation-harness and of Inspect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.evals.samples import Sample, read_results, read_samples
from harness.store import write_bytes
from harness.types import Problem

Render = Callable[[Problem], str]
"""The text of a problem's prompt."""

NO_TIME = "1970-01-01T00-00-00.000000"
"""Part of the file's name that the readers of lm_eval expect; the same samples give the same file."""


def to_lm_eval(folder: Path, output: Path, render: Render) -> Path:
    """Write `samples_<task>_<time>.jsonl` as `lm_eval --log_samples` does: one line per problem, samples in `resps`."""
    results = read_results(folder)
    problems: dict[str, list[Sample]] = {}
    for sample in read_samples(folder):
        problems.setdefault(sample.problem_id, []).append(sample)
    rows = (_lm_eval_row(number, samples, results, render) for number, samples in enumerate(problems.values()))
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path = output / f"samples_{results['task']}_{NO_TIME}.jsonl"
    write_bytes(path, "".join(lines).encode())
    return path


def _lm_eval_row(number: int, samples: list[Sample], results: dict[str, Any], render: Render) -> dict[str, Any]:
    problem, sampling = samples[0].problem, results["sampling"]
    texts, answers = [s.response.text for s in samples], [s.answer or "" for s in samples]
    doc = {"id": problem.id, "question": problem.question, "answer": problem.answer}
    prompt = render(problem)
    options = {
        "until": sampling["stop"],
        "do_sample": sampling["temperature"] > 0,
        "temperature": sampling["temperature"],
        "top_p": sampling["top_p"],
        "top_k": sampling["top_k"],
        "max_gen_toks": sampling["max_tokens"],
    }
    return {
        "doc_id": number,
        "doc": doc,
        "target": problem.answer,
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": options}},
        "resps": [texts],
        "filtered_resps": answers if len(answers) == 1 else [answers],
        "filter": rule if isinstance(rule := results["protocol"]["answer_protocol"], str) else rule["name"],
        "metrics": ["exact_match"],
        "doc_hash": digest(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": digest(prompt),
        "target_hash": digest(problem.answer),
        "exact_match": sum(sample.correct for sample in samples) / len(samples),
    }


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def to_inspect(folder: Path, output: Path, render: Render) -> Path:
    """Write `<task>.json` as an Inspect eval log (version 2): one sample per response, epochs count the samples."""
    results = read_results(folder)
    samples = read_samples(folder)
    grader, accuracy = results["grader"]["name"], results["metrics"]["accuracy"]["value"]
    score = {"name": grader, "scorer": grader, "params": {}}
    log: dict[str, Any] = {
        "version": 2,
        "status": "success",
        "eval": _inspect_eval(results, samples),
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [{**score, "metrics": {"accuracy": {"name": "accuracy", "value": accuracy, "params": {}}}}],
        },
        "stats": {"started_at": "", "completed_at": "", "model_usage": {}},
        "samples": [_inspect_sample(sample, results, render) for sample in samples],
    }
    path = output / f"{results['task']}.json"
    write_bytes(path, (json.dumps(log, ensure_ascii=False, indent=1) + "\n").encode())
    return path


def _inspect_eval(results: dict[str, Any], samples: list[Sample]) -> dict[str, Any]:
    ids, sampling = list(dict.fromkeys(sample.problem_id for sample in samples)), results["sampling"]
    options = {name: sampling[name] for name in ("temperature", "top_p", "max_tokens", "seed")}
    stops = {"stop_seqs": sampling["stop"]} if sampling["stop"] else {}
    return {
        "eval_id": digest(json.dumps(results["hashes"]))[:22],
        "run_id": results["hashes"]["weights"],
        "created": "1970-01-01T00:00:00+00:00",
        "task": results["task"],
        "task_id": results["task"],
        "task_version": 0,
        "task_args": {},
        "dataset": {"name": results["task"], "samples": len(ids), "sample_ids": ids, "shuffled": False},
        "model": str(results["config"].get("model", "")),
        "model_generate_config": {**options, **stops},
        "model_args": {},
        "config": {
            "epochs": max((sample.index for sample in samples), default=0) + 1,
            **({"limit": results["limit"]["problems"]} if results["limit"] else {}),
        },
        "packages": results["versions"],
        "scorers": [{"name": results["grader"]["name"], "options": {}, "metrics": [{"name": "accuracy"}]}],
    }


def _inspect_sample(sample: Sample, results: dict[str, Any], render: Render) -> dict[str, Any]:
    asked = {"role": "user", "content": render(sample.problem), "source": "input"}
    message = {"role": "assistant", "content": sample.response.text, "source": "generate"}
    reason = "max_tokens" if sample.response.finish_reason == "length" else "stop"
    grade = {"value": "C" if sample.correct else "I", "answer": sample.answer, "explanation": sample.status}
    return {
        "id": sample.problem_id,
        "epoch": sample.index + 1,
        "input": sample.problem.question,
        "target": sample.problem.answer,
        "messages": [asked, message],
        "output": {
            "model": str(results["config"].get("model", "")),
            "choices": [{"message": message, "stop_reason": reason}],
            "completion": sample.response.text,
        },
        "scores": {results["grader"]["name"]: grade},
        "metadata": {"level": sample.problem.level, "subject": sample.problem.subject, "reward": sample.reward},
        "store": {},
        "events": [],
        "attachments": {},
    }
