import json

import pytest

from harness.cli.main import main
from harness.commands.replay import replay
from harness.errors import InputError
from harness.rewards import Outcome
from harness.rollouts.iteration import IterationFiles
from harness.selection import BalancedSampling, TopK
from harness.store import write_json, write_rows
from harness.types import RolloutConfig, SamplingConfig, SFTExample
from tests.selection.test_balance import rollout


@pytest.fixture
def run(tmp_path):
    """One finished iteration: at 0.5 one of two responses is right, at 1.0 both are; 0.5 was taken."""
    files = IterationFiles(tmp_path / "rollouts", 1)
    cold, warm = SamplingConfig(n=2, temperature=0.5), SamplingConfig(n=2, temperature=1.0)
    mixed = rollout(0, [("right", 1.0, True), ("wrong", 0.3, False)])
    both = rollout(0, [("right", 1.0, True), ("also", 1.0, True)])
    probed = [(mixed, cold), (mixed, cold), (both, warm), (both, warm)]
    write_rows(files.probe, [type(r)(r.problem, r.responses, s) for r, s in probed])
    write_rows(files.rollouts, [type(mixed)(mixed.problem, mixed.responses, cold)])
    write_rows(files.train, [SFTExample("q0", "right", problem_id="0")])
    write_json(files.manifest, {"iteration": 1, "config": RolloutConfig(cold, 0.5), "decision": {}})
    return tmp_path


def replayed(run, **options):
    replay(run, output=run / "out.json", **options)
    [result] = json.loads((run / "out.json").read_text())
    return result


def test_the_runs_own_decision_gives_the_rows_it_trained_on(run):
    result = replayed(run)
    assert (result["rows"], result["wrong_share"], result["also_in_run"]) == (1, 0, 1)


def test_another_threshold_shows_what_would_have_been_trained_on(run):
    scheduler = BalancedSampling(SamplingConfig(n=2), (0.5,), (0.0,), rows_per_problem=2, n_star=1)
    result = replayed(run, scheduler=scheduler)
    assert (result["rows"], result["wrong_share"], result["also_in_run"]) == (2, 0.5, 0.5)
    assert result["balance_score"] == 0.5


def test_another_temperature_is_named_but_its_rows_are_not_made_up(run):
    scheduler = BalancedSampling(SamplingConfig(n=2), (0.5, 1.0), (0.5,), rows_per_problem=2, n_star=2)
    result = replayed(run, scheduler=scheduler)
    assert (result["temperature"], result["balance_score"], result["rows"]) == (1.0, 1.0, None)


def test_another_reward_rescores_the_stored_samples(run):
    scheduler = BalancedSampling(SamplingConfig(n=2), (0.5,), (0.2,), rows_per_problem=2, n_star=1)
    assert replayed(run, scheduler=scheduler)["rows"] == 2
    assert replayed(run, scheduler=scheduler, reward=Outcome(), select=TopK())["rows"] == 1


def test_a_temperature_that_was_not_probed_is_an_error(run):
    scheduler = BalancedSampling(SamplingConfig(n=2), (0.7,), (0.5,))
    with pytest.raises(InputError, match=r"known temperatures: \[0.5, 1.0\]"):
        replay(run, scheduler=scheduler)


def test_a_folder_without_iterations_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no finished iteration"):
        replay(tmp_path)


def test_a_part_of_the_default_selection_can_be_given_alone(run, capsys):
    assert main(["replay", str(run), "--select.max_per_problem", "1"]) == 0
    assert "also_in_run" in capsys.readouterr().out
