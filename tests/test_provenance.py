"""What decides a result is told apart, whoever wrote the class; what cannot be told is marked."""

import importlib
import os
import sys
from dataclasses import dataclass

import pytest
import torch

from harness.provenance import differences, identity, unknown_parts
from harness.rewards import ArithmeticSteps, Outcome, OutcomeElseProcess, RewardModel, UnitTests, WeightedSum
from harness.sandbox import Limits, Sandbox
from harness.search import MCTS, CodeSteps, Forest, StepBeam
from harness.types import SamplingConfig

MINE = """
class Base:
    def __init__(self, weight: float = 1.0) -> None:
        self._weight = weight

class ShortIsGood(Base):
    def __init__(self, length: int = 8, **options: object) -> None:
        super().__init__(**options)
        self.length = length
        self._cache = {}

    def __call__(self, problems, responses, correct):
        return []

class FromFile:
    def __init__(self, words: str) -> None:
        self.words = words

class Forgetful:
    def __init__(self, path: str) -> None:
        self.size = len(path)

class Holding:
    def __init__(self, model: object) -> None:
        self.model = model

class Taking:
    def __init__(self, *parts: object) -> None:
        self.parts = parts

class Telling:
    def __init__(self, model: object) -> None:
        self.model = model

    def identity(self):
        return {"version": 3}
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A user's module, outside the package."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mylab.py").write_text(MINE)
    yield importlib.import_module("mylab")
    sys.modules.pop("mylab")


@pytest.mark.parametrize(
    ("then", "now", "named"),
    [
        (MCTS(), MCTS(rollouts=4), "rollouts"),
        (MCTS(), MCTS(steps=CodeSteps()), "steps.class"),
        (MCTS(steps=CodeSteps()), MCTS(steps=CodeSteps(answer_by_box=True)), "steps.answer_by_box"),
        (Forest(MCTS()), Forest(MCTS(c_puct=1.0)), "search.c_puct"),
        (Forest(MCTS()), Forest(StepBeam()), "search.class"),
        (Outcome(), ArithmeticSteps(), "class"),
        (WeightedSum(ArithmeticSteps()), WeightedSum(ArithmeticSteps(), 0.5), "process_weight"),
        (WeightedSum(ArithmeticSteps()), WeightedSum(UnitTests()), "process.class"),
        (OutcomeElseProcess(UnitTests()), OutcomeElseProcess(UnitTests(timeout=1.0)), "process.timeout"),
        (SamplingConfig(), SamplingConfig(stop=("\n",)), "stop"),
        (SamplingConfig(), SamplingConfig(temperature=float("inf")), "temperature"),
    ],
)
def test_what_differs_has_a_name(then, now, named):
    found = differences(identity(then), identity(now))
    assert named in found
    assert identity(then) != identity(now)
    assert identity(then) == identity(then)
    assert not unknown_parts([identity(then), identity(now)])


def test_how_many_work_at_a_time_decides_nothing():
    assert identity(UnitTests(workers=1)) == identity(UnitTests(workers=2))
    with_one, with_two, slower = Sandbox(1), Sandbox(2, snapshots=0), Sandbox(1, Limits(timeout=99))
    assert identity(with_one) == identity(with_two)
    assert list(differences(identity(with_one), identity(slower))) == ["limits.timeout"]
    for sandbox in (with_one, with_two, slower):
        sandbox.close()


def test_a_reward_model_is_its_weights_wherever_they_lie(tmp_path, tiny_model_dir):
    from shutil import copytree

    from safetensors.torch import load_file, save_file

    first, second = (copytree(tiny_model_dir, tmp_path / name) for name in ("first", "second"))
    weights = load_file(second / "model.safetensors")
    before = identity(RewardModel(str(first), "plain"))
    assert identity(WeightedSum(RewardModel(str(second), "plain")))["process"] == before
    weights["model.norm.weight"] *= -1
    save_file(weights, second / "model.safetensors", metadata={"format": "pt"})
    assert list(differences(before, identity(RewardModel(str(second), "plain")))) == ["weights"]
    assert list(differences(before, identity(RewardModel(str(first), "gsm8k")))) == ["template.user"]
    assert identity(RewardModel(str(first), "plain", batch_tokens=7)) == before


def test_a_users_class_is_its_arguments_and_its_source(mine, tmp_path):
    plain = identity(mine.ShortIsGood())
    assert {"length": 8, "weight": 1.0}.items() <= plain.items()
    assert list(differences(plain, identity(mine.ShortIsGood(9)))) == ["length"]
    assert list(differences(plain, identity(mine.ShortIsGood(weight=2.0)))) == ["weight"]
    used = mine.ShortIsGood()
    used._cache["a"] = 1
    assert identity(used) == plain
    (tmp_path / "mylab.py").write_text(MINE.replace("return []", "return [1]"))
    assert list(differences(plain, identity(mine.ShortIsGood()))) == ["module source"]


def test_what_a_users_argument_names_on_disk_counts_by_content(mine, tmp_path):
    file, folder = tmp_path / "words.txt", tmp_path / "words"
    file.write_text("a")
    folder.mkdir()
    before = [identity(mine.FromFile(str(path))) for path in (file, folder)]
    file.write_text("b")
    (folder / "more.txt").write_text("c")
    after = [identity(mine.FromFile(str(path))) for path in (file, folder)]
    assert list(differences(before[0], after[0])) == ["words.file"]
    assert list(differences(before[1], after[1])) == ["words.folder"]
    os.utime(folder / "more.txt", (1, 1))
    assert identity(mine.FromFile(str(folder))) != after[1], "another time: it may be another file"


@pytest.mark.parametrize(
    ("name", "argument", "part"),
    [
        ("Forgetful", "x", "path"),
        ("Holding", torch.nn.Linear(1, 1), "model"),
        ("Holding", lambda: 0, "model"),
        ("Holding", sys.stdout, "model"),
        ("Taking", 1, "parts"),
    ],
)
def test_what_cannot_be_told_is_marked_also_inside(mine, name, argument, part):
    made = getattr(mine, name)(argument)
    assert list(unknown_parts(identity(made))) == [part]
    assert list(unknown_parts({"reward": identity(WeightedSum(made))})) == [f"reward.process.{part}"]


def test_a_class_can_tell_itself(mine):
    told = identity(mine.Telling(torch.nn.Linear(1, 1)))
    assert told["version"] == 3
    assert not unknown_parts(told)


@dataclass(frozen=True)
class Nested:
    steps: object


def test_lists_of_objects_are_compared_inside():
    then, now = identity(Nested([CodeSteps()])), identity(Nested([CodeSteps(answer_by_box=True)]))
    assert list(differences(then, now)) == ["steps.0.answer_by_box"]
