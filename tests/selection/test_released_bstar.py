"""The preset that repeats B-STaR's released code, against what that code itself answered.

`SCORES` and `ROWS` were printed by `find_rewardbase` and `get_unique_trn_json` of `determine_hyper.py`,
hkust-nlp/B-STaR a0f5d95, for the samples that `samples` draws.
"""

import random

import pytest
import yaml

from harness.selection import BalancedSampling, TopK
from harness.types import Problem, Response, Rollout, RolloutConfig, SamplingConfig, ScoredResponse
from tests.paths import ROOT

THRESHOLDS = (-1.0, -0.4, 0.0, 0.3, 0.8, 1.1)
TARGET = 40
RECIPE = ROOT / "configs/recipes/bstar/math_mistral7b/21_bstar_released_code.yaml"


def samples(seed, num_queries=12, num_samples=8, without_answer=0.15, none_answered=2):
    """(text, answer or None, lowest step logit / 5) of each sample of each query; the gold answer is "1"."""
    rng = random.Random(seed)
    queries = []
    for query in range(num_queries):
        known = {}
        for _ in range(num_samples):
            text = f"step {query} {rng.randint(0, 9)}"
            answer = None if query < none_answered or rng.random() < without_answer else rng.choice("1123")
            known.setdefault(text, (answer, rng.uniform(-1, 1)))
        queries.append([(text, *known[text]) for text in rng.choices(list(known), k=num_samples)])
    return queries


def text_of(text, answer):
    return text if answer is None else f"{text}\n\n# Answer\n\n{answer}"


def rollouts(seed):
    found = []
    for index, query in enumerate(samples(seed)):
        problem = Problem(str(index), f"q{index}", "1", solution=text_of("gold", "1"))
        responses = tuple(
            ScoredResponse(
                Response((text_of(text, answer),), "stop"), answer, answer == "1", float(answer == "1") + process
            )
            for text, answer, process in query
        )
        found.append(Rollout(problem, responses))
    return found


def preset(kind):
    """The options of the recipe's scheduler or selector that say what the released code does."""
    callbacks = yaml.safe_load(RECIPE.read_text())["trainer"]["callbacks"]
    [arguments] = [c["init_args"] for c in callbacks if c["class_path"].endswith("RolloutCallback")]
    return arguments[kind]["init_args"]


SCORES = (
    (0.20354166666666665, 0.22985119047619046, 0.24047619047619045, 0.1933333333333333, 0.15625, 0.125),
    (0.25645833333333334, 0.31, 0.325625, 0.3208333333333333, 0.21875, 0.15),
    (0.29812500000000003, 0.29812500000000003, 0.3416666666666667, 0.30833333333333335, 0.29166666666666663, 1 / 6),
    (0.22645833333333334, 0.23604166666666665, 0.24229166666666666, 0.24958333333333332, 0.24375, 0.2),
)
"""Balance score of each threshold, by seed."""
ROWS = (
    (41, 40, 38, 29, 19, 5),
    (41, 40, 38, 32, 19, 6),
    (42, 42, 40, 36, 25, 8),
    (40, 37, 36, 28, 21, 8),
)
"""Rows trained on, likewise."""


@pytest.mark.parametrize("seed", range(4))
def test_scores_and_rows_are_the_released_codes_where_responses_have_no_answer(seed):
    wanted = {"rows_per_problem": TARGET / 12, "probe_rows_per_problem": None}
    scheduler = BalancedSampling(
        **{**preset("scheduler"), "sampling": SamplingConfig(n=8), "thresholds": THRESHOLDS, **wanted}
    )
    assert scheduler.scores(rollouts(seed)).mean.tolist() == pytest.approx(SCORES[seed], abs=1e-12)
    select = TopK(**{**preset("select"), "rows_per_problem": TARGET / 12})
    for threshold, number in zip(THRESHOLDS, ROWS[seed], strict=True):
        rows, _ = select(rollouts(seed), RolloutConfig(reward_threshold=threshold), lambda problem: problem.question)
        assert len(rows) == number
        assert all("# Answer" in row.response for row in rows)


def test_the_probes_target_is_the_released_scripts():
    scheduler = preset("scheduler")
    assert round(scheduler["probe_rows_per_problem"] * 600) == 3550
    assert round(scheduler["rows_per_problem"] * 11500) == pytest.approx(67500, abs=1)
