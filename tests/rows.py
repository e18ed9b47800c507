"""Compares files of rollouts."""

from dataclasses import replace

import pytest

from harness.store import read_rows
from harness.types import Rollout


def same_samples(first, second):
    """Whether two files hold the same rows, up to the rounding of log-probabilities, which depends on the batch."""
    rows = [read_rows(path, Rollout) for path in (first, second)]
    logps = [[scored.response.logp for row in each for scored in row.responses] for each in rows]
    bare = [list(map(without_logps, each)) for each in rows]
    return bare[0] == bare[1] and logps[0] == pytest.approx(logps[1], rel=1e-4)


def without_logps(row):
    bare = (replace(scored, response=replace(scored.response, logp=0.0, token_logps=())) for scored in row.responses)
    return replace(row, responses=tuple(bare))
