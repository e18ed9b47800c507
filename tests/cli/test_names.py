"""Short names, files and entry points in options and configuration files."""

from __future__ import annotations

import sys

import jsonargparse._typehints as typehints
import pytest

from harness.cli.function import function_parser
from harness.cli.main import main
from harness.cli.names import KINDS, full_name
from harness.commands.replay import replay
from harness.commands.rollout import rollout
from harness.errors import InputError
from harness.rewards import Outcome
from harness.selection import FixedSampling, TopK

OWN = """
from collections.abc import Sequence

from harness.types import Problem, Response, Score


class Short:
    \"\"\"Shorter is better.\"\"\"

    def __init__(self, per_step: float = 1.0) -> None:
        self.per_step = per_step

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        return [Score(-self.per_step * len(response.steps)) for response in responses]
"""


def parsed(function, *options):
    parser = function_parser("x", function)
    return parser.instantiate_classes(parser.parse_args([*options]))


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("modules", "SFTModule", "harness.modules.SFTModule"),
        ("datamodules", "SFTDataModule", "harness.datamodules.SFTDataModule"),
        ("callbacks", "RolloutCallback", "harness.callbacks.RolloutCallback"),
        ("rewards", "Outcome", "harness.rewards.Outcome"),
        ("searches", "MCTS", "harness.search.MCTS"),
        ("schedulers", "BalancedSampling", "harness.selection.BalancedSampling"),
        ("selectors", "TopK", "harness.selection.TopK"),
    ],
)
def test_every_kind_has_short_names(kind, name, path):
    assert full_name(KINDS[kind], name) == path
    assert full_name(KINDS[kind], path) == path
    assert full_name(KINDS[kind], "null") == "null"


def test_kinds_of_one_package_are_told_apart():
    assert "TopK" not in KINDS["schedulers"].names()
    assert "BalancedSampling" not in KINDS["selectors"].names()


def test_options_take_short_names_and_their_parts():
    found = parsed(
        replay, "--run", "r", "--select", "TopK", "--select.max_per_problem", "2", "--scheduler", "FixedSampling"
    )
    assert isinstance(found.select, TopK)
    assert found.select.max_per_problem == 2
    assert isinstance(found.scheduler, FixedSampling)


def test_files_take_short_names_at_any_depth(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "model: m\nproblems: [p]\noutput: o\n"
        "reward: {class_path: WeightedSum, init_args: {process: {class_path: Outcome}, process_weight: 0.5}}\n"
    )
    found = parsed(rollout, "--config", str(tmp_path / "c.yaml"))
    assert isinstance(found.reward.process, Outcome)


def test_a_class_in_a_file_is_found(tmp_path, monkeypatch):
    (tmp_path / "inside_names.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    reward = ["--reward", "inside_names.py:Short", "--reward.per_step", "2"]
    found = parsed(rollout, "--model", "m", "--problems", "[p]", "--output", "o", *reward)
    assert found.reward.per_step == 2
    assert type(found.reward).__module__ == "inside_names"


def test_a_file_outside_the_current_folder_is_found_and_one_named_as_another_module_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "outside_names.py").write_text(OWN)
    (tmp_path / "json.py").write_text(OWN)
    assert full_name(KINDS["rewards"], f"{tmp_path}/outside_names.py:Short") == "outside_names.Short"
    with pytest.raises(InputError, match="another module is called 'json'"):
        full_name(KINDS["rewards"], f"{tmp_path}/json.py:Short")
    with pytest.raises(InputError, match="no such file"):
        full_name(KINDS["rewards"], f"{tmp_path}/none.py:Short")


def test_an_installed_package_adds_names_by_an_entry_point(tmp_path, monkeypatch, capsys):
    (tmp_path / "mylab_names.py").write_text(OWN)
    (tmp_path / "mylab-1.0.dist-info").mkdir()
    (tmp_path / "mylab-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mylab\nVersion: 1.0\n")
    (tmp_path / "mylab-1.0.dist-info" / "entry_points.txt").write_text("[harness.rewards]\nshort = mylab_names:Short\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert full_name(KINDS["rewards"], "short") == "mylab_names.Short"
    assert main(["list", "rewards"]) == 0
    shown = capsys.readouterr().out
    assert "short            " in shown
    assert "Shorter is better." in shown


@pytest.mark.parametrize("kind", [*KINDS, "templates", "tasks", "protocols", "graders", "losses"])
def test_every_kind_can_be_listed_with_a_line_each(kind, capsys):
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.split(None, 1)[1:] for line in lines), "every entry says what it is"


def test_an_unknown_kind_is_refused(capsys):
    assert main(["list", "things"]) == 2
    assert "unknown kind 'things'; known: modules" in capsys.readouterr().err


def test_the_parser_still_has_what_is_replaced_in_it():
    """jsonargparse's functions are private: a version that renames them must fail here and not in a user's hands."""
    assert typehints.adapt_typehints.__module__ == "harness.cli.names"
    assert typehints.resolve_class_path_by_name.__module__ == "harness.cli.names"
    assert set(typehints.ActionTypeHint._check_type.__code__.co_names) & {"adapt_typehints"}
