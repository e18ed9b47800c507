import pytest

from harness.errors import InputError
from harness.rollouts.log import RolloutLog, chunks
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse

PROBLEMS = [Problem(str(i), f"q{i}", "1") for i in range(5)]
SAMPLING = SamplingConfig(n=2, seed=7)


class Sampler:
    """Answers problems in reverse order and notes which it was asked for."""

    def __init__(self, weights="w"):
        self.weights, self.asked = weights, []

    def __call__(self, problems):
        for problem in reversed(problems):
            self.asked.append(problem.id)
            yield Rollout(problem, (ScoredResponse(Response((f"r{problem.id}",))),), SAMPLING, 1, self.weights)


def walk(path, sampler, sampling=SAMPLING):
    log = RolloutLog(path, "w")
    return [row for chunk in chunks(PROBLEMS, 2) for row in log.chunk(chunk, sampling, sampler)]


def test_rollouts_come_back_in_the_order_of_the_problems(tmp_path):
    assert [row.problem.id for row in walk(tmp_path / "log.jsonl", Sampler())] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("keep", range(6))
def test_complete_chunks_are_read_back_and_the_others_sampled_anew(tmp_path, keep):
    path = tmp_path / "log.jsonl"
    whole = walk(path, Sampler())
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:keep]) + b'{"torn')
    again = Sampler()
    assert walk(path, again) == whole
    assert path.read_bytes() == content
    complete = {0: 0, 1: 0, 2: 2, 3: 2, 4: 4, 5: 5}[keep]
    assert sorted(again.asked) == [str(i) for i in range(complete, 5)]


def test_rows_of_other_weights_or_settings_are_refused_with_their_line(tmp_path):
    path = tmp_path / "log.jsonl"
    walk(path, Sampler())
    with pytest.raises(InputError, match=r"log.jsonl:1: drawn with another sampling"):
        walk(path, Sampler(), SamplingConfig(n=3))
    with pytest.raises(InputError, match=r"another weights"):
        RolloutLog(path, "other").chunk(PROBLEMS[:2], SAMPLING, Sampler())
