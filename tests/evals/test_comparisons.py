import itertools
import json

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from harness.commands.evaluate import compare
from harness.errors import InputError
from harness.evals.comparisons import Comparison, adjust
from harness.metrics.intervals import mcnemar
from harness.metrics.sequential import e_bh, e_process, holm, random_order
from tests.evals.test_compare import MANY, evaluated

__all__ = ["evaluated"]  # a fixture

KNOWN = {"base": range(20), "a": range(10, 50), "b": range(1, 21), "c": range(8, 34)}


@pytest.fixture
def models(evaluated):
    return [evaluated(name, numbers) for name, numbers in KNOWN.items()]


def closed(p_values):
    """P-values adjusted by the closure of Bonferroni's test, from its definition: over all intersections of each."""
    count = len(p_values)
    sets = [subset for size in range(1, count + 1) for subset in itertools.combinations(range(count), size)]
    return [
        min(1.0, max(len(each) * min(p_values[j] for j in each) for each in sets if i in each)) for i in range(count)
    ]


def largest_consistent(evidence, level):
    """E-BH from its definition: the largest set of which every e-value is at least m / (level |set|)."""
    count = len(evidence)
    for size in range(count, 0, -1):
        found = [i for i in range(count) if evidence[i] >= count / (level * size)]
        if len(found) >= size:
            return [i in found for i in range(count)]
    return [False] * count


def discordant(first, second):
    wins = len(set(KNOWN[second]) - set(KNOWN[first]))
    return wins, wins + len(set(KNOWN[first]) - set(KNOWN[second]))


def test_all_are_tested_against_the_first_and_adjusted_together(models, tmp_path, capsys):
    base, *others = models
    assert compare(base, others[0], others=others[1:], output=tmp_path / "tests.json") == 0
    written = json.loads((tmp_path / "tests.json").read_text())
    assert written["runs"] == {name: str(folder) for name, folder in zip(KNOWN, models, strict=True)}
    tests = written["tests"]
    assert [(test["first"], test["second"]) for test in tests] == [("base", name) for name in ("a", "b", "c")]
    plain = [binomtest(*discordant("base", name)).pvalue for name in ("a", "b", "c")]
    assert [test["p_value"] for test in tests] == pytest.approx(plain)
    # 30 won and 10 lost: 3 x 0.0022214; 1 and 1: 1; 14 and 8: 2 x 0.2862787.
    assert [test["p_value_holm"] for test in tests] == pytest.approx(closed(plain))
    assert [test["p_value_holm"] for test in tests] == pytest.approx([0.006664, 1.0, 0.572557], abs=1e-5)
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == "task accuracy of difference alone 95 % detectable problems p p (Holm) better"
    assert rows[1].startswith("sums a - base +0.3333 [")
    assert rows[1].endswith("60 0.00222 0.00666 a")
    assert rows[3].endswith("60 0.286 0.573 none shown")
    assert rows[-1].startswith("3 comparisons together (Holm)")


def test_every_pair_is_tested_on_wish(models, tmp_path, capsys):
    compare(models[0], models[1], others=models[2:], all_pairs=True, output=tmp_path / "tests.json")
    tests = json.loads((tmp_path / "tests.json").read_text())["tests"]
    assert [(test["first"], test["second"]) for test in tests] == list(itertools.combinations(KNOWN, 2))
    plain = [binomtest(*discordant(*pair)).pvalue for pair in itertools.combinations(KNOWN, 2)]
    assert [test["p_value_holm"] for test in tests] == pytest.approx(closed(plain))
    assert "6 comparisons together (Holm)" in capsys.readouterr().out


def test_bets_on_many_models_are_adjusted_by_e_bh(evaluated, tmp_path, capsys):
    known = {"base": (), "all": range(60), "most": range(45), "few": range(3)}
    folders = [evaluated(name, numbers) for name, numbers in known.items()]
    compare(folders[0], folders[1], others=folders[2:], sequential="e_process", output=tmp_path / "tests.json")
    tests = json.loads((tmp_path / "tests.json").read_text())["tests"]
    order = random_order([problem.id for problem in MANY])
    bets = [
        e_process([float(int(name.partition("/")[2]) in known[test["second"]]) for name in order]).evidence
        for test in tests
    ]
    assert [test["evidence"] for test in tests] == pytest.approx(bets)
    assert [test["found_e_bh"] for test in tests] == largest_consistent(bets, 0.05) == [True, True, False]
    closing = capsys.readouterr().out.splitlines()[-1]
    assert closing == (
        "of 3 comparisons together (e-BH, at most 5 % of those found are false): sums all - base, sums most - base."
    )


def test_both_adjustments_are_what_they_are_defined_as():
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 8):
        for _ in range(50):
            p_values = list(rng.random(count) ** 3)
            assert holm(p_values) == pytest.approx(closed(p_values))
            evidence = list(np.exp(rng.normal(2, 2, count)))
            assert e_bh(evidence) == largest_consistent(evidence, 0.05)


def test_no_difference_is_named_among_ten_equal_models_in_19_of_20_runs():
    """All are compared with one base, so the comparisons hang together."""
    rng, runs, wrong = np.random.default_rng(1), 1500, 0
    p_values = {}
    for _ in range(runs):
        chance = rng.random(150)
        right = rng.random((11, 150)) < chance
        tests = []
        for other in right[1:]:
            pair = int((other & ~right[0]).sum()), int((right[0] & ~other).sum())
            tests.append(p_values.setdefault(pair, mcnemar(*pair)))
        wrong += min(holm(tests)) < 0.05
    assert wrong <= binom.ppf(0.999, runs, 0.05)
    assert min(tests) < 1  # they were no empty comparisons


def test_a_winner_needs_both_the_adjusted_p_value_and_a_difference_that_can_be_shown():
    def of(p_value, difference):
        found = {"p_value": p_value, "difference": difference, "detectable": 0.1}
        return Comparison("sums", ("base", "a"), "", found)

    several = [of(0.01, 0.2), of(0.02, -0.2), of(0.001, 0.05), of(0.04, 0.3)]
    adjust(several)
    assert [each.found["p_value_holm"] for each in several] == pytest.approx([0.03, 0.04, 0.004, 0.04])
    assert [each.better for each in several] == ["a", "base", "", "a"]


def test_mistakes_are_said_before_anything_is_read(models):
    with pytest.raises(InputError, match=r"is given twice; name each evaluation once"):
        compare(models[0], models[1], others=[models[0]])


def test_words_behind_the_second_are_further_evaluations():
    from harness.cli.function import spell_out

    words = ("first", "second", "others")
    assert spell_out(compare, ["a", "b"], words) == ["--first", "a", "--second", "b"]
    spelt = spell_out(compare, ["a", "b", "c", "d", "--all_pairs"], words)
    assert spelt == ["--first", "a", "--second", "b", "--others", '["c", "d"]', "--all_pairs", "true"]
