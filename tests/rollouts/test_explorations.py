"""Exploring with an engine whose samples follow from prefix and seed, and once with a real one."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from harness.commands.explore import explore
from harness.commands.prepare import prepare
from harness.engines import EngineConfig
from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.problems import read_problems
from harness.prompts.find import find_template
from harness.prompts.templates import PromptTemplate
from harness.rewards import Outcome
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.explorations import (
    Explored,
    agreement,
    collect_explorations,
    cost,
    joined_at_tokens,
    rejected_responses,
    retokenized,
    statistics,
)
from harness.search import StepExplore
from harness.search.step_explore import Continuation, Exploration, ExploredStep
from harness.selection import DistancePairs, DistinctTexts
from harness.store import read_rows, write_rows
from harness.types import (
    Completion,
    GenerationResult,
    PreferencePair,
    Problem,
    Response,
    Rollout,
    RolloutConfig,
    SamplingConfig,
    ScoredResponse,
)
from tests.rollouts.test_dispatcher import ScriptedEngine

PAIRS = DistancePairs(DistinctTexts(min_distance=0.0))
SEARCH = StepExplore()
SAMPLING = SamplingConfig(seed=3)


class SeededEngine(ScriptedEngine):
    """Sample j follows from the text and the seed; the longer the response, the rarer the right answer."""

    def __init__(self, tokenizer, fail_at: int | None = None) -> None:
        super().__init__(tokenizer, None)
        self.fail_at = fail_at

    def poll(self):
        if self.fail_at is not None and len(self.requests) >= self.fail_at:
            raise KeyboardInterrupt
        request = self.waiting.pop(random.Random(len(self.requests)).randrange(len(self.waiting)))
        text = self.tokenizer.decode(request.prompt_ids, skip_special_tokens=True)
        completions = []
        for j in range(request.sampling.n):
            rng = random.Random(f"{text} {request.sampling.seed + j}")
            answer = 1 if rng.random() < 0.8 / (text.count("\n")) else 2
            body = f"{rng.randrange(99)}\n#### {answer}"
            ids = tuple(self.tokenizer(body, add_special_tokens=False)["input_ids"])
            completions.append(Completion(body, ids))
        return [GenerationResult(request.key, tuple(completions))]


def sampled(tokenizer, text: str, right: bool) -> ScoredResponse:
    ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    answer = "1" if right else "2"
    return ScoredResponse(Response(tuple(text.splitlines(keepends=True)), "stop", ids), answer, right, float(right))


@pytest.fixture
def rollouts(tiny_tokenizer):
    """Eight problems with two right and three wrong responses each."""
    rows = {}
    for index in range(8):
        texts = [(f"r{i}\n#### 1", True) for i in range(2)]
        texts += [(f"a\nb\n{'c' * i}\nd\n#### 2", False) for i in range(1, 4)]
        responses = tuple(sampled(tiny_tokenizer, text, right) for text, right in texts)
        rows[f"p{index}"] = Rollout(Problem(f"p{index}", f"Q{index}", "1"), responses)
    return rows


def make_server(tokenizer, **options) -> Dispatcher:
    return Dispatcher(SeededEngine(tokenizer, **options), tokenizer, PromptTemplate("test"), Outcome())


def run(path, rollouts, tokenizer, search=SEARCH, source="", **options) -> list[Explored]:
    server = make_server(tokenizer, **options)
    return collect_explorations(path, rollouts, PAIRS.paired, server, search, SAMPLING, source=source)


def test_every_rejected_response_is_explored_beside_the_one_chosen_with_it(rollouts, tiny_tokenizer, tmp_path):
    rows = run(tmp_path / "explored.jsonl", rollouts, tiny_tokenizer)
    assert [row.problem.id for row in rows] == list(rollouts)
    for row in rows:
        expected = [(chosen, rejected.response.text) for chosen, rejected in PAIRS.paired(rollouts["p0"])]
        assert [(c, e.response.text) for c, e in zip(row.chosen, row.explorations, strict=True)] == expected
        assert len(expected) == 2
    assert read_rows(tmp_path / "explored.jsonl", Explored) == rows
    pits = [one.pit for row in rows for one in row.explorations]
    assert len(set(pits)) >= 3


def test_a_killed_run_continues_to_the_same_rows(rollouts, tiny_tokenizer, tmp_path):
    whole = run(tmp_path / "whole.jsonl", rollouts, tiny_tokenizer)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken.jsonl", rollouts, tiny_tokenizer, fail_at=60)
    kept = len((tmp_path / "broken.jsonl").read_text().splitlines())
    assert 0 < kept < 8
    assert run(tmp_path / "broken.jsonl", rollouts, tiny_tokenizer) == whole
    assert (tmp_path / "broken.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_rows_of_other_settings_or_other_rollouts_are_refused(rollouts, tiny_tokenizer, tmp_path):
    path = tmp_path / "explored.jsonl"
    run(path, rollouts, tiny_tokenizer)
    with pytest.raises(InputError, match=r"explored.jsonl:1: made with another search.samples"):
        run(path, rollouts, tiny_tokenizer, search=StepExplore(samples=8))
    with pytest.raises(InputError, match="made with another source"):
        run(path, rollouts, tiny_tokenizer, source="other rollouts")


def test_the_cheap_scan_finds_what_the_plain_scan_finds_for_fewer_tokens(rollouts, tiny_tokenizer, tmp_path):
    search = StepExplore(share_prefixes=False)
    plain = StepExplore(at_once=4, skip_answer=False, share_prefixes=False)
    saved = run(tmp_path / "saved.jsonl", rollouts, tiny_tokenizer, search)
    full = run(tmp_path / "plain.jsonl", rollouts, tiny_tokenizer, plain)
    # Behind the answer this engine goes on to a new one, which the grader reads: there the scans may differ.
    before_answer = [row for row in full if all(one.pit is not None and one.pit < 4 for one in row.explorations)]
    names = {row.problem.id for row in before_answer}
    assert len(names) >= 3
    assert agreement([row for row in saved if row.problem.id in names], before_answer) == (1.0, 2 * len(names))
    spent, whole = cost(saved, search), cost(full, plain)
    assert whole["generations"] == whole["plain_generations"]
    assert whole["tokens"] == whole["plain_tokens"]
    assert spent["generations"] < whole["generations"]
    shared = cost(run(tmp_path / "shared.jsonl", rollouts, tiny_tokenizer), StepExplore())
    assert shared["generations"] < spent["generations"]


def test_cost_and_statistics_of_an_example():
    def step(count: int, *sizes: int, sound: bool) -> ExploredStep:
        drawn = [Continuation(Completion("x", tuple(range(size)))) for size in sizes]
        return ExploredStep(count, (*drawn[:-1], replace(drawn[-1], right=sound)))

    one = Exploration(Response(("a\n", "b\n", "2")), (step(1, 6, 2, sound=True), step(2, 4, 4, 4, 4, sound=False)), 1)
    two = Exploration(Response(("a\n", "2")), (step(1, 6, 2, sound=True),), 1)
    rows = [Explored(Problem("p", "q"), ("r", "r"), (one, two))]
    # Drawn: 2 samples of 8 tokens after "a" for both, 4 of 16 after "b". The plain scan draws 4 after "a" (4 tokens
    # each on average) and 4 after "b" for the first response; 4 after "a" and 4 of one token behind the answer for the
    # second: 16 samples, 16 + 16 + 16 + 4 tokens.
    expected = {"generations": 6, "tokens": 24, "plain_generations": 16, "plain_tokens": 52}
    assert cost(rows, StepExplore()) == expected
    assert cost(rows, StepExplore(share_prefixes=False)) == expected | {"generations": 8, "tokens": 32}
    assert statistics(rows) == {
        "num_explored": 2,
        "pits_at_step": {"2": 2},
        "sound_share_of_step": {"1": 1.0, "2": 0.0},
    }


def test_a_step_that_ends_within_a_token_is_joined_with_the_next():
    response = Response(("a\n", "b\n", "c\n", "d"), "stop", (5, 6, 7), step_ends=(1, -1, 2, -1))
    assert joined_at_tokens(response) == Response(("a\n", "b\nc\n", "d"), "stop", (5, 6, 7), step_ends=(1, 2, -1))


def test_the_engine_continues_the_sampled_tokens_of_every_prefix(rollouts, tiny_tokenizer):
    server = make_server(tiny_tokenizer)
    chosen, wrong = rejected_responses(rollouts["p0"], PAIRS.paired(rollouts["p0"]), server)
    assert chosen == ("r0\n#### 1", "r1\n#### 1")
    [first, _] = wrong.responses
    assert first.response.text == "a\nb\nccc\nd\n#### 2"
    assert first.response.step_ends == (2, 4, 8, 10, 16)
    assert server.response_ids(first.response.prefix(3)) == first.response.token_ids[:8]


def test_prefixes_whose_text_reads_as_other_tokens_are_counted(rollouts, tiny_tokenizer, tmp_path):
    rows = run(tmp_path / "explored.jsonl", rollouts, tiny_tokenizer)
    server = make_server(tiny_tokenizer)
    assert retokenized(rows, server) == 0
    late = next(row for row in rows if row.explorations[0].pit)
    one = late.explorations[0]
    odd = replace(one, response=replace(one.response, token_ids=(0, *one.response.token_ids[1:])))
    assert retokenized([replace(late, explorations=(odd,))], server) == 1


@pytest.mark.parametrize("source", ["miner", "file"])
def test_the_command_writes_pairs_and_a_manifest(tmp_path, capsys, source):
    prepare(tmp_path, num_sft=1, num_train=4, num_probe=1, num_test=1)
    tokenizer = load_tokenizer(tmp_path / "base")
    template = find_template("arithmetic")
    rows = []
    for problem in read_problems(tmp_path / "train.jsonl"):
        number = int(problem.answer)
        texts = [(f"{number}\n#### {number}", True), (f"{number} + 1\n{number - 1}\n#### {number - 1}", False)]
        scored = tuple(sampled(tokenizer, text, right) for text, right in texts)
        rows.append(Rollout(problem, scored))
    write_rows(tmp_path / "rollouts.jsonl", rows)
    write_rows(tmp_path / "outcome.jsonl", PAIRS(rows, RolloutConfig(), lambda problem: problem.question)[0])
    options = {
        "model": str(tmp_path / "base"),
        "rollouts": [str(tmp_path / "rollouts.jsonl")],
        **({"pairs": PAIRS} if source == "miner" else {"pair_rows": tmp_path / "outcome.jsonl"}),
        "output": tmp_path / "explored.jsonl",
        "rows": tmp_path / "pairs.jsonl",
        "template": "arithmetic",
        "sampling": SamplingConfig(max_tokens=8),
        "engine": EngineConfig(kind="transformers", dtype="float32", max_model_len=64),
    }
    assert explore(**options) == 0
    first = (tmp_path / "pairs.jsonl").read_bytes()
    manifest = json.loads((tmp_path / "pairs.json").read_text())
    assert manifest["num_explored"] == 4
    assert manifest["num_rows"] + sum(manifest["dropped"].values()) == 4
    assert manifest["cost"]["generations"] <= manifest["cost"]["plain_generations"]
    assert manifest["num_prefixes_with_other_tokens"] == 0
    for pair in read_rows(tmp_path / "pairs.jsonl", PreferencePair):
        assert pair.prompt.startswith(template.render(next(r.problem for r in rows if r.problem.id == pair.problem_id)))
    capsys.readouterr()
    # Again: all is read back, and compared with itself.
    assert explore(**options, compare=tmp_path / "explored.jsonl") == 0
    assert (tmp_path / "pairs.jsonl").read_bytes() == first
    assert json.loads((tmp_path / "pairs.json").read_text())["agreement"]["share"] == 1.0
    with pytest.raises(InputError, match="give the outcome pairs, either as `pair_rows`"):
        explore(**options | {"pairs": None, "pair_rows": None})
