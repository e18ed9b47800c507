"""Every command that continues a file, asked something else: what it refuses has a name, what it returns is new.

Each option of a command is changed in turn and the command run again on its own output. Either it is refused with the
option's name and the file stays as it is, or all it returns is what a run on a new output returns. An option that no
table names fails the test, so that a new one gets its place.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

import harness.engines
from harness.commands.evaluate import eval_tasks
from harness.commands.explore import explore
from harness.commands.rollout import rollout
from harness.commands.trees import trees
from harness.engines import EngineConfig
from harness.engines.hf import HFEngine
from harness.errors import InputError
from harness.evals.samples import read_samples
from harness.prompts.find import find_template
from harness.provenance import differences
from harness.rewards import ArithmeticSteps, Likelihood, Outcome, WeightedSum
from harness.rollouts.iteration import Iteration, Replay
from harness.search import MCTS, Chains, PlainSteps, StepBeam
from harness.search.step_explore import StepExplore
from harness.selection import BalancedSampling, DistancePairs, DistinctTexts, FixedSampling, OutcomePairs, TopK
from harness.store import read_jsonl, to_dict, write_rows
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse, SFTExample

WORDS = PlainSteps((" ",))
TREE = MCTS(candidates=2, rollouts=2, max_depth=2, steps=WORDS, terminal_reward="sign")
BEAM = StepBeam(2, steps=WORDS, max_steps=2)
HF = EngineConfig(kind="transformers", dtype="float32")


@dataclass(frozen=True)
class FakeSandbox:
    """Stands for an executor that no search here asks."""

    timeout: float = 1.0


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_model_dir, tiny_tokenizer) -> dict[str, str]:
    """Problems, those with another question or gold, another model, and rollouts with pairs, by name."""
    from tests.conftest import build_tiny_model

    folder = tmp_path_factory.mktemp("files")
    problems = [Problem(f"p{i}", f"{i} + 1", str(i + 1)) for i in range(3)]
    asked_otherwise = [replace(problems[0], question="7 + 7"), *problems[1:]]
    graded_otherwise = [replace(problem, answer="0") for problem in problems]
    for name, rows in (("problems", problems), ("asked", asked_otherwise), ("graded", graded_otherwise)):
        write_rows(folder / f"{name}.jsonl", rows)

    def scored(text: str, right: bool) -> ScoredResponse:
        ids = tuple(tiny_tokenizer(text, add_special_tokens=False)["input_ids"])
        return ScoredResponse(Response(tuple(text.splitlines(keepends=True)), "stop", ids), "1", right, float(right))

    known = [
        Rollout(problem, (scored("a\n1", True), scored("b\nc\n2", False), scored("bb\nc\n2", False)))
        for problem in problems
    ]
    write_rows(folder / "rollouts.jsonl", known)
    write_rows(folder / "fewer.jsonl", [replace(row, responses=row.responses[:2]) for row in known])
    build_tiny_model(seed=1).save_pretrained(folder / "other")
    tiny_tokenizer.save_pretrained(folder / "other")
    shutil.copytree(tiny_model_dir, folder / "words")
    text = (folder / "words/tokenizer.json").read_text()
    settings = json.loads(text)
    vocabulary = settings["model"]["vocab"]
    vocabulary["x"], vocabulary["y"] = vocabulary["y"], vocabulary["x"]
    (folder / "words/tokenizer.json").write_text(json.dumps(settings))
    names = ("problems", "asked", "graded", "rollouts", "fewer")
    return {
        "model": str(tiny_model_dir),
        **{name: str(folder / f"{name}.jsonl") for name in names},
        **{name: str(folder / name) for name in ("other", "words")},
    }


@pytest.fixture(autouse=True)
def one_engine_for_each_model(monkeypatch):
    """Opening an engine takes longer than all that these commands sample."""
    opened: dict[Any, HFEngine] = {}

    def open_once(model, config=HF, version=""):
        engine = opened.setdefault((model, config), HFEngine(model, config))
        engine.close = lambda: None
        return engine

    monkeypatch.setattr(harness.engines, "open_engine", open_once)


SAMPLING: dict[str, Any] = {
    "n": 3,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.3,
    "repetition_penalty": 1.5,
    "thinking_budget": 5,
    "max_tokens": 9,
    "stop": ("a",),
    "step_stop": ("b",),
    "seed": 5,
    "first": 1,
}
"""Another value for each field."""
ENGINE: dict[str, Any] = {"max_model_len": 60}
SAME_ROWS = {
    "kind": "another engine needs another package; tests/evals/test_run.py has it",
    "dtype": "below",
    **dict.fromkeys(
        (
            "max_num_seqs",
            "kv_cache_bytes",
            "gpu_memory_utilization",
            "tensor_parallel_size",
            "enforce_eager",
            "device",
        ),
        "how many requests are worked on at a time, and where",
    ),
    **dict.fromkeys(("distributed_executor_backend", "enable_sleep", "seed"), "vLLM's own; samples have seeds"),
    "seeds": "of vLLM, which says it in what made the rows; tests/engines/test_vllm.py has it",
    **dict.fromkeys(("model_name", "weights_folder", "api_key_env", "timeout", "max_retries"), "of a server"),
    "replicas": "how many engines there are",
    "replica": "of Ray; what the engines are stands in the name that rows are known by, as that of one engine",
}
"""Fields of the engine that decide no row, and why."""


@dataclass(frozen=True)
class Command:
    """A command as it is run first, and its options that are changed afterwards."""

    run: Callable[..., int]
    first: dict[str, Any]
    changes: dict[str, list[Any]]
    """By option; a text in angle brackets is one of the files."""
    decide_nothing: dict[str, str]
    """Options that cannot change a row that is read back, and why."""


AFTERWARDS = "made anew from all rows each time"
PLACE = "where it is written"
SHARD = "whose samples are those of the whole; tests of shards hold them apart"
COMMANDS = {
    "rollout": Command(
        rollout,
        {"model": "<model>", "problems": ["<problems>"], "sampling": SamplingConfig(n=2, max_tokens=8), "engine": HF},
        {
            "model": ["<other>", "<words>"],
            "problems": [["<asked>"], ["<graded>"]],
            "start": [["<rollouts>"]],
            "template": ["gsm8k"],
            "search": [TREE, Chains(WORDS), BEAM],
            "reward": [Likelihood(), ArithmeticSteps(), WeightedSum(Likelihood())],
            "grader": ["rstar"],
            "limit": [2],
        },
        {
            **dict.fromkeys(("select", "reward_threshold", "rows", "pairs", "pair_rows"), AFTERWARDS),
            "output": PLACE,
            "shard": SHARD,
            "sandbox": "asked by searches with code alone; tests/rollouts/test_dispatcher.py",
        },
    ),
    "rollout --search": Command(
        rollout,
        {
            "model": "<model>",
            "problems": ["<problems>"],
            "sampling": SamplingConfig(n=2, max_tokens=8),
            "engine": HF,
            "search": BEAM,
            "reward": WeightedSum(Likelihood()),
        },
        {
            "model": ["<other>"],
            "problems": [["<asked>"], ["<graded>"]],
            "start": [["<rollouts>"]],
            "template": ["gsm8k"],
            "search": [None, replace(BEAM, width=1), replace(BEAM, steps=PlainSteps(("a",)))],
            "reward": [None, WeightedSum(ArithmeticSteps()), WeightedSum(Likelihood(), 0.5)],
            "grader": ["rstar"],
            "sandbox": [FakeSandbox()],
            "limit": [2],
        },
        {
            **dict.fromkeys(("select", "reward_threshold", "rows", "pairs", "pair_rows"), AFTERWARDS),
            "output": PLACE,
            "shard": SHARD,
        },
    ),
    "trees": Command(
        trees,
        {
            "model": "<model>",
            "problems": ["<problems>"],
            "search": TREE,
            "sampling": SamplingConfig(n=2, max_tokens=8),
            "engine": HF,
        },
        {
            "model": ["<other>"],
            "problems": [["<asked>"], ["<graded>"]],
            "template": ["gsm8k"],
            "search": [replace(TREE, c_puct=0.1), replace(TREE, score_steps=False)],
            "reward": [Likelihood()],
            "grader": ["rstar"],
            "sandbox": [FakeSandbox()],
            "num_trees": [2],
            "hard_trees": [(1,)],
            "limit": [2],
        },
        {
            **dict.fromkeys(
                (
                    "sft_rows", "traces_per_problem", "row_template", "pair_rows", "step_pairs",
                    "answer_pairs_per_side", "answer_pair_rows", "value_rows",
                ),
                AFTERWARDS,
            ),
            "output": PLACE,
        },
    ),
    "explore": Command(
        explore,
        {
            "model": "<model>",
            "rollouts": ["<rollouts>"],
            "pairs": DistancePairs(DistinctTexts()),
            "search": StepExplore(samples=2, max_steps=2),
            "sampling": SamplingConfig(temperature=0.7, max_tokens=8),
            "engine": HF,
        },
        {
            "model": ["<other>"],
            "rollouts": [["<fewer>"]],
            "pairs": [DistancePairs(DistinctTexts(), max_wrong=1)],
            "search": [StepExplore(samples=3, max_steps=2), StepExplore(samples=2, max_steps=1)],
            "template": ["gsm8k"],
            "grader": ["rstar"],
            "limit": [2],
        },
        {
            **dict.fromkeys(("first_pit", "rows", "compare"), AFTERWARDS),
            "pair_rows": "in place of pairs, and by content like rollouts",
            "output": PLACE,
        },
    ),
}  # fmt: skip


def cases() -> list[Any]:
    found = []
    for name, command in COMMANDS.items():
        for option, values in command.changes.items():
            found += [pytest.param(name, {option: each}, id=f"{name}, {option} {i}") for i, each in enumerate(values)]
        sampling, engine = command.first["sampling"], command.first["engine"]
        found += [
            pytest.param(name, {"sampling": replace(sampling, **{field: value})}, id=f"{name}, {field}")
            for field, value in SAMPLING.items()
        ]
        found += [
            pytest.param(name, {"engine": replace(engine, **{field: value})}, id=f"{name}, engine {field}")
            for field, value in ENGINE.items()
        ]
    return found


def filled(value: Any, files: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [filled(item, files) for item in value]
    return files.get(value[1:-1], value) if isinstance(value, str) and value.startswith("<") else value


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_its_place_in_the_table(name):
    command = COMMANDS[name]
    options = set(inspect.signature(command.run).parameters)
    assert {*command.changes, *command.decide_nothing, "sampling", "engine"} == options
    assert set(SAMPLING) == {f.name for f in fields(SamplingConfig)}
    assert {*ENGINE, *SAME_ROWS} == {f.name for f in fields(EngineConfig)}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "change"), cases())
def test_old_rows_are_never_returned_for_another_question(files, tmp_path, capsys, name, change):
    command = COMMANDS[name]

    def run(output: Path, options: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
        given = {key: filled(value, files) for key, value in {**command.first, **options}.items()}
        if command.run is explore:
            given["rows"] = output.with_name("pairs.jsonl")
        capsys.readouterr()
        assert command.run(output=output, **given) == 0
        printed = capsys.readouterr().out.splitlines()
        shown = [line for line in printed if not line.startswith("hashes") and " tokens, " not in line]
        return [row for _, row in read_jsonl(output)], "\n".join(shown)

    output = tmp_path / "again.jsonl"
    first, _ = run(output, {})
    [option] = change
    refusal = ""
    try:
        found, said = run(output, change)
    except InputError as error:
        refusal = str(error)
    if refusal:
        assert any(word in refusal for word in NAMES.get(option, (option,))), refusal
        assert [row for _, row in read_jsonl(output)] == first
        return
    fresh, wanted = run(tmp_path / "fresh.jsonl", change)
    if option in ("limit", "num_trees", "hard_trees"):
        rows = {key(row): rounded(row) for row in found}
        assert all(rows[key(row)] == rounded(row) for row in fresh)
    else:
        assert found == fresh
    assert said == wanted


def rounded(value: Any) -> Any:
    """Without the digits that depend on the size of a batch."""
    if isinstance(value, dict):
        # Packed log-probabilities have no digits to round; their sum stands beside them.
        return {name: rounded(each) for name, each in value.items() if name != "token_logps"}
    return (
        [rounded(each) for each in value]
        if isinstance(value, list)
        else (round(value, 3) if isinstance(value, float) else value)
    )


def key(row: dict[str, Any]) -> tuple[str, int]:
    return row["problem"]["id"], row.get("index", 0)


NAMES = {
    "model": ("weights", "tokenizer"),
    "problems": ("problem.",),
    "rollouts": ("source",),
    "pairs": ("pairing",),
    "sandbox": ("executor",),
}
"""What a refusal calls an option, where not by its own name."""


EVALUATION: dict[str, list[Any]] = {
    "task": ["<asked>", "<graded>"],
    "model": ["<other>", "<words>"],
    "engine": [replace(HF, max_model_len=60)],
    "protocol": ["arithmetic", "self_explore"],
    "n": [1, 3],
    "temperature": [0.5],
    "top_p": [0.5],
    "top_k": [3],
    "min_p": [0.3],
    "repetition_penalty": [1.5],
    "stop": [["a"]],
    "preset": ["reasoning"],
    "samples": ["p1"],
    "max_tokens": [9],
    "seed": [5],
    "limit": [2],
    "order": [3],
    "grader": ["rstar"],
    "search": [TREE, Chains(WORDS)],
    "reward": [Likelihood(), WeightedSum(Likelihood())],
}
"""Other values of the options of `harness eval`."""
EVALUATION_NAMES = {
    "task": ("data",),
    "model": ("weights", "tokenizer"),
    "engine": ("max_context",),
    "protocol": ("template", "answer_protocol"),
    "preset": ("sampling",),
    "samples": ("limit",),
}
NO_RESULTS = {
    **dict.fromkeys(("k", "s", "tau"), "which metrics are computed from the samples"),
    **dict.fromkeys(("export", "wandb_project"), "where they are written as well"),
    **dict.fromkeys(("training_files", "released"), "what is reported beside them"),
    **dict.fromkeys(("budgets", "force_answer"), "what the same samples are cut to; tests/evals/test_budgets.py"),
    "until": "another limit, which tests/evals/test_until.py holds apart",
    "shard": SHARD,
    "too_long": "whether there are any where a prompt does not fit; the context counts",
    "thinking_budget": "refused by a tokenizer without think tags, as here; tests/evals/test_run.py holds it apart",
    "data_dir": "where the rows come from; their hash counts",
    "output": PLACE,
    "sandbox": "asked by searches with code alone",
}


def test_every_option_of_an_evaluation_has_its_place_in_the_table():
    assert {*EVALUATION, *NO_RESULTS} == set(inspect.signature(eval_tasks).parameters)


@pytest.mark.slow
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "killed before its results"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({option: each}, id=f"{option} {i}")
        for option, values in EVALUATION.items()
        for i, each in enumerate(values)
    ],
)
def test_old_samples_are_never_counted_for_another_question(files, tmp_path, monkeypatch, change, finished):
    monkeypatch.chdir(tmp_path)
    first = {"task": "<problems>", "model": "<model>", "engine": HF, "protocol": "plain", "n": 2, "temperature": 1.0}

    def run(folder: str, options: dict[str, Any]) -> Any:
        # The file's name is the task's.
        given = {key: filled(value, files) for key, value in {**first, "max_tokens": 8, **options}.items()}
        shutil.copy(given["task"], "rows.jsonl")
        assert eval_tasks(**{**given, "task": "rows.jsonl", "output": Path(folder)}) == 0
        results = json.loads((Path(folder) / "results.json").read_text())
        for name in ("config", "git_commit", "sha256"):
            del results[name]
        del results["hashes"]["samples"]  # the digits depend on the size of a batch
        return results, rounded([to_dict(sample) for sample in read_samples(Path(folder))])

    run("again", {})
    before = Path("again/results.json").read_bytes()
    if not finished:
        Path("again/results.json").unlink()
    [option] = change
    refusal = ""
    try:
        found = run("again", change)
    except InputError as error:
        refusal = str(error)
    if refusal:
        assert finished
        assert any(word in refusal for word in EVALUATION_NAMES.get(option, (option,))), refusal
        assert Path("again/results.json").read_bytes() == before
        return
    assert found == run("fresh", change)


ITERATION: dict[str, Any] = {
    "problems": [Problem("p", "2 + 2", "5")],
    "probe_problems": [Problem("p", "2 + 2", "4")],
    "scheduler": BalancedSampling(SamplingConfig(n=2)),
    "select": OutcomePairs(),
    "reward": WeightedSum(ArithmeticSteps()),
    "search": TREE,
    "problems_per_iteration": 3,
    "replay": Replay([SFTExample("q", "a")], 0.5),
    "grader": "rstar",
    "hint": "{question} {answer}",
    "seed": 4,
    "staleness": 1,
}
"""Another value for each field of an iteration that decides its rows."""
DECIDE_NOTHING = {"probe_among_problems": "refuses or not"}


@pytest.mark.parametrize("name", [f.name for f in fields(Iteration) if f.name not in DECIDE_NOTHING])
def test_every_setting_of_an_iteration_is_written_down_by_its_name(name):
    plan = Iteration([Problem("p", "2 + 2", "4")], FixedSampling(SamplingConfig()), TopK(), reward=Outcome())
    before = plan.asked(find_template("plain"))
    now = replace(plan, **{name: ITERATION[name]}).asked(find_template("plain"))
    assert {changed.partition(".")[0] for changed in differences(before, now)} == {name}
