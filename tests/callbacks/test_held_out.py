"""Measurements of a part of the held-out problems, sharpened by the last one of all."""

from __future__ import annotations

import json

import pytest

from harness.callbacks import HeldOutAccuracy
from harness.callbacks.held_out_accuracy import pass_rates
from harness.errors import InputError
from harness.metrics.intervals import control_variate, mean_interval
from harness.prompts.templates import PromptTemplate
from harness.rollouts.dispatcher import Dispatcher
from harness.store import read_rows, stable_hash, write_rows
from harness.types import Rollout
from tests.evals.conftest import ScriptedEngine, build_byte_tokenizer, sums

TEMPLATE = PromptTemplate("test", user="{question} = ?\n", answer_protocol="gsm8k")


@pytest.fixture(scope="module")
def tokenizer():
    return build_byte_tokenizer()


@pytest.fixture
def problems(tmp_path):
    path = tmp_path / "test.jsonl"
    write_rows(path, sums(120))
    return [str(path)]


def policy(tokenizer, skill: float) -> Dispatcher:
    """Right where a problem is easier than the skill, but for some that chance decides."""

    def answer(prompt, seed):
        number = int(tokenizer.decode(prompt).split(" ")[0])
        hard, luck = (stable_hash(part, number, skill * luck, bits=20) / 2**20 for part, luck in (("h", 0), ("l", 1)))
        return f"#### {number + 1 if 0.8 * hard + 0.2 * luck < skill else -1}"

    engine = ScriptedEngine(tokenizer, answer)
    engine.version = f"skill {skill}"
    return Dispatcher(engine, tokenizer, TEMPLATE)


def test_a_part_is_sharpened_by_the_last_measurement_of_all_problems(tokenizer, problems, tmp_path):
    evaluation = HeldOutAccuracy(problems, max_tokens=16, part=30, whole_every=3)
    parts = []
    for iteration, skill in enumerate((0.4, 0.45, 0.5, 0.55, 0.6)):
        dispatcher = policy(tokenizer, skill)
        found = evaluation.run(iteration, tmp_path, dispatcher, "strict")
        rollouts = read_rows(tmp_path / f"eval_{iteration:03d}.jsonl", Rollout)
        right = {rollout.problem.id: float(rollout.responses[0].correct) for rollout in rollouts}
        if iteration in (0, 3):
            assert "accuracy_of_part" not in found
            assert found["accuracy"] == mean_interval(list(right.values())).value
            assert dispatcher.engine.num_samples == 120
            known = pass_rates(tmp_path / f"eval_{iteration:03d}.jsonl")
            assert known == right
            continue
        assert dispatcher.engine.num_samples == len(right) == found["num_problems"] == 30
        parts.append(list(right))
        expected = control_variate(list(right.values()), [known[name] for name in right], list(known.values()))
        assert (found["accuracy"], found["accuracy_low"]) == (expected.value, expected.low)
        plain = mean_interval(list(right.values()))
        assert found["accuracy_of_part"] == plain.value
        assert expected.error < 0.8 * plain.error
        assert json.loads((tmp_path / f"eval_{iteration:03d}.json").read_text())["accuracy"] == expected.value
        # Measured again, as after a kill, it draws nothing and writes the same.
        content = (tmp_path / f"eval_{iteration:03d}.json").read_bytes()
        again = policy(tokenizer, skill)
        assert evaluation.run(iteration, tmp_path, again, "strict") == found
        assert again.engine.num_samples == 0
        assert (tmp_path / f"eval_{iteration:03d}.json").read_bytes() == content
    assert len({tuple(part) for part in parts}) == 3


def test_a_part_of_what_was_not_measured_whole_is_measured_whole(tokenizer, problems, tmp_path):
    evaluation = HeldOutAccuracy(problems, max_tokens=16, part=30)
    assert "num_problems" not in evaluation.run(2, tmp_path, policy(tokenizer, 0.5), "strict")


def test_files_of_runs_that_measure_all_problems_do_not_change(problems):
    asked = HeldOutAccuracy(problems).asked(TEMPLATE, "strict")
    assert not {"part", "whole_every"} & asked.keys()
    assert {"part", "whole_every"} <= HeldOutAccuracy(problems, part=30).asked(TEMPLATE, "strict").keys()


def test_a_part_that_is_none_is_refused(problems):
    with pytest.raises(InputError, match="part is 3; it must be at least 4"):
        HeldOutAccuracy(problems, part=3)
    with pytest.raises(InputError, match="part is 120 of 120 problems; give fewer"):
        HeldOutAccuracy(problems, part=120).load()
    with pytest.raises(InputError, match="whole_every is 0"):
        HeldOutAccuracy(problems, part=30, whole_every=0)
