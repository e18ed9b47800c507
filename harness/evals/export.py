"""Finished evaluations in the sample formats of lm-evaluation-harness and of Inspect."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.evals.compare import read_results
from harness.evals.samples import Sample, read_samples
from harness.store import write_bytes


def to_lm_eval(folder: Path, output: Path) -> Path:
    """Write `samples_<task>.jsonl` as `lm_eval --log_samples` does: one line per problem, its samples in `resps`."""
    results = read_results(folder)
    problems: dict[str, list[Sample]] = {}
    for sample in read_samples(folder):
        problems.setdefault(sample.problem_id, []).append(sample)
    lines = []
    for number, samples in enumerate(problems.values()):
        problem = samples[0].problem
        texts, answers = [s.response.text for s in samples], [s.answer or "" for s in samples]
        lines.append(
            {
                "doc_id": number,
                "doc": {"id": problem.id, "question": problem.question, "answer": problem.answer},
                "target": problem.answer,
                "arguments": {"gen_args_0": {"arg_0": problem.question, "arg_1": results["sampling"]}},
                "resps": [texts],
                "filtered_resps": answers if len(answers) == 1 else [answers],
                "filter": results["protocol"]["answer_protocol"],
                "metrics": ["exact_match"],
                "doc_hash": digest(problem.id + problem.question),
                "prompt_hash": digest(problem.question),
                "target_hash": digest(problem.answer),
                "exact_match": sum(sample.correct for sample in samples) / len(samples),
            }
        )
    path = output / f"samples_{results['task']}.jsonl"
    write_bytes(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    return path


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def to_inspect(folder: Path, output: Path) -> Path:
    """Write `<task>.json` as an Inspect eval log (version 2): one sample per response, epochs count the samples."""
    results = read_results(folder)
    samples = read_samples(folder)
    accuracy = results["metrics"]["accuracy"]["value"]
    log: dict[str, Any] = {
        "version": 2,
        "status": "success",
        "eval": {
            "run_id": results["hashes"]["weights"],
            "created": "1970-01-01T00:00:00+00:00",
            "task": results["task"],
            "task_id": results["task"],
            "task_version": 0,
            "task_args": {},
            "dataset": {"name": results["task"], "samples": results["counts"]["problems"]},
            "model": str(results["config"].get("model", "")),
            "model_args": {},
            "config": {"epochs": max((sample.index for sample in samples), default=0) + 1},
            "packages": results["versions"],
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [
                {
                    "name": results["grader"]["name"],
                    "scorer": results["grader"]["name"],
                    "params": {},
                    "metrics": {"accuracy": {"name": "accuracy", "value": accuracy, "params": {}}},
                }
            ],
        },
        "stats": {"started_at": "", "completed_at": "", "model_usage": {}},
        "samples": [_inspect_sample(sample, results) for sample in samples],
    }
    path = output / f"{results['task']}.json"
    write_bytes(path, (json.dumps(log, ensure_ascii=False, indent=1) + "\n").encode())
    return path


def _inspect_sample(sample: Sample, results: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": sample.response.text, "source": "generate"}
    reason = "max_tokens" if sample.response.finish_reason == "length" else "stop"
    return {
        "id": sample.problem_id,
        "epoch": sample.index + 1,
        "input": sample.problem.question,
        "target": sample.problem.answer,
        "messages": [{"role": "user", "content": sample.problem.question}, message],
        "output": {
            "model": str(results["config"].get("model", "")),
            "choices": [{"message": message, "stop_reason": reason}],
        },
        "scores": {
            results["grader"]["name"]: {
                "value": "C" if sample.correct else "I",
                "answer": sample.answer,
                "explanation": sample.status,
            }
        },
        "metadata": {"level": sample.problem.level, "subject": sample.problem.subject, "reward": sample.reward},
        "store": {},
        "events": [],
        "attachments": {},
    }
