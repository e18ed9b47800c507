"""`harness trees` and other commands take any search that grows trees, and a class's own constructors by name."""

from __future__ import annotations

import functools
import sys

import pytest

from harness.cli.function import function_parser
from harness.commands.evaluate import eval_tasks
from harness.commands.trees import trees
from harness.search import MCTS

OWN = '''
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any
from harness.search import MCTS
from harness.search.tree import SearchTree
from harness.types import Problem, SamplingConfig

@dataclass(frozen=True)
class Narrow:
    """One child a node."""
    depth: int = 3

    def grow(self, problem: Problem, sampling: SamplingConfig) -> Generator[Any, Any, SearchTree]:
        return (yield from MCTS(candidates=1, max_depth=self.depth).grow(problem, sampling))
'''


@functools.cache
def parser(function):
    return function_parser("search", function)


def search(function, *options):
    asked = ("--output", "o", "--problems", "[p]") if function is trees else ("--task", "t")
    made = parser(function)
    return made.instantiate_classes(made.parse_args(["--model", "m", *asked, *options])).search


@pytest.mark.parametrize("function", [trees, eval_tasks])
def test_the_papers_and_the_released_codes_settings_can_be_named(function):
    for name in ("MCTS.paper", "harness.search.MCTS.paper"):
        assert search(function, "--search", name, "--search.use", "inference") == MCTS.paper("inference")
    given = "{class_path: MCTS.repo, init_args: {use: first_round}, dict_kwargs: {rollouts: 3}}"
    assert search(function, "--search", given) == MCTS.repo("first_round", rollouts=3)


def test_trees_take_fields_of_mcts_as_before_and_any_class_that_grows_trees(tmp_path, monkeypatch, capsys):
    assert search(trees, "--search.rollouts", "4") == MCTS(rollouts=4)
    assert search(trees) is None, "which is MCTS()"
    (tmp_path / "narrow_search.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    own = search(trees, "--search", "narrow_search.py:Narrow", "--search.depth", "2")
    assert (type(own).__name__, own.depth) == ("Narrow", 2)
    with pytest.raises(SystemExit):
        search(trees, "--search", "StepBeam")
    assert "StepBeam" in capsys.readouterr().err
