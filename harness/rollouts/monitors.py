"""What an iteration's rollouts look like, in numbers."""

from __future__ import annotations

from collections.abc import Sequence

from harness.types import Rollout


def monitors(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Accuracy, coverage, diversity, length and reward of scored rollouts.

    Returns:
        `accuracy` (mean over responses), `solved` (share of problems with a correct response), `distinct_correct` and
        `distinct_answers` (mean number per problem), `duplicate_share`, `no_answer_share`, `cut_share`, `mean_reward`,
        `mean_tokens` and `entropy` (nats per token, estimated as the mean negative log-probability of the samples).
    """
    rows = [scored for rollout in rollouts for scored in rollout.responses]
    count, problems = max(len(rows), 1), max(len(rollouts), 1)
    tokens = sum(len(row.response.token_ids) for row in rows)
    distinct = [{row.response.text for row in rollout.responses} for rollout in rollouts]
    correct = [{row.response.text for row in rollout.responses if row.correct} for rollout in rollouts]
    answers = [{row.answer for row in rollout.responses if row.answer is not None} for rollout in rollouts]
    return {
        "num_problems": len(rollouts),
        "num_responses": len(rows),
        "accuracy": sum(row.correct for row in rows) / count,
        "solved": sum(map(bool, correct)) / problems,
        "distinct_correct": sum(map(len, correct)) / problems,
        "distinct_answers": sum(map(len, answers)) / problems,
        "duplicate_share": 1 - sum(map(len, distinct)) / count,
        "no_answer_share": sum(row.answer is None for row in rows) / count,
        "cut_share": sum(row.response.finish_reason == "length" for row in rows) / count,
        "mean_reward": sum(row.reward for row in rows) / count,
        "mean_tokens": tokens / count,
        "entropy": -sum(row.response.logp for row in rows) / max(tokens, 1),
    }
