"""What an iteration's rollouts look like, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from harness.metrics import batched
from harness.metrics.diversity import distinct_equation_ratio
from harness.metrics.summary import GAP_QUANTILE, rankings_of
from harness.protocols import Reward, answer_weight
from harness.types import Rollout, ScoredResponse

WANTED = (1, 4)
"""Values of S in Pass@K-S and Reward@K-S."""


def monitors(
    rollouts: Sequence[Rollout], reward: Reward | None = None, threshold: float | None = None
) -> dict[str, float]:
    """Accuracy, coverage, diversity, length and reward of scored rollouts, and how well the reward ranks them.

    Args:
        rollouts: scored.
        reward: what scored them; gives the rankings that `harness.metrics.summary.rankings_of` says. None gives none.
        threshold: rewards above it are selected; without it there are no gaps of the selection.

    Returns:
        `accuracy` (mean over responses), `solved` (share of problems with a correct response), `distinct_correct` and
        `distinct_answers` (mean number per problem), `distinct_equation_ratio` (distinct over all equations in the
        correct responses, mean over problems that have some), `duplicate_share`, `no_answer_share`, `cut_share`,
        `mean_reward`, `mean_tokens` and `entropy` (nats per token, estimated as the mean negative log-probability of
        the samples). For K = n / 2 and n, where n is the smallest number of responses to a problem: `pass@K` and
        `pass@K-S`; for each ranking r `reward@K/r` (best of K), `reward@K-S/r`, `selection_loss@K/r`
        (pass@K - reward@K) and `auc/r` (chance that a correct response to a problem ranks above a wrong one, ties
        half, mean over problems that have both). `selection_gap` is the accuracy of the selected responses minus that
        of all, `relative_selection_gap` its share of what was to be gained: their reward may see the gold answer, so
        they are no generation-verification gap. That is `gv_gap/prm` (arXiv:2412.02674), of keeping a problem's better
        half by what does not see it, and `relative_gv_gap/prm`.
    """
    rows = [scored for rollout in rollouts for scored in rollout.responses]
    count, problems = max(len(rows), 1), max(len(rollouts), 1)
    tokens = sum(len(row.response.token_ids) for row in rows)
    distinct = [{row.response.text for row in rollout.responses} for rollout in rollouts]
    correct = [[row.response.text for row in rollout.responses if row.correct] for rollout in rollouts]
    answers = [{row.answer for row in rollout.responses if row.answer is not None} for rollout in rollouts]
    found = {
        "num_problems": len(rollouts),
        "num_responses": len(rows),
        "accuracy": sum(row.correct for row in rows) / count,
        "solved": sum(map(bool, correct)) / problems,
        "distinct_correct": sum(len(set(texts)) for texts in correct) / problems,
        "distinct_answers": sum(map(len, answers)) / problems,
        "duplicate_share": 1 - sum(map(len, distinct)) / count,
        "no_answer_share": sum(row.answer is None for row in rows) / count,
        "cut_share": sum(row.response.finish_reason == "length" for row in rows) / count,
        "mean_reward": sum(row.reward for row in rows) / count,
        "mean_tokens": tokens / count,
        "entropy": -sum(row.response.logp for row in rows) / max(tokens, 1),
    }
    ratios = [ratio for texts in correct if (ratio := distinct_equation_ratio(texts)) is not None]
    if ratios:
        found["distinct_equation_ratio"] = float(np.mean(ratios))
    columns: dict[str, list[np.ndarray]] = {}
    for name, values in _ranked(rollouts, reward, threshold):
        columns.setdefault(name, []).append(values)
    for name, parts in columns.items():
        values = np.concatenate(parts)
        if not np.isnan(values).all():
            found[name] = float(np.nanmean(values))
    return found


def _ranked(
    rollouts: Sequence[Rollout], reward: Reward | None, threshold: float | None
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, values by problem) of what depends on the number of responses, for the problems of each such number."""
    sizes = Counter(len(rollout.responses) for rollout in rollouts)
    smallest = min(sizes, default=0)
    budgets = sorted({k for k in (smallest // 2, smallest) if k > 1})
    for n in sizes if smallest else ():
        rows = [rollout.responses for rollout in rollouts if len(rollout.responses) == n]
        correct = np.array([[row.correct for row in group] for group in rows])
        rewards = np.array([[row.reward for row in group] for group in rows])
        copies = _copies(rows, n)
        wanted = [(k, s) for k in budgets for s in WANTED if s <= k]
        passed = {(k, s): batched.pass_at_k_s(copies, n, k, s) for k, s in wanted}
        for (k, s), values in passed.items():
            yield (f"pass@{k}" if s == 1 else f"pass@{k}-{s}"), values
        for name, rank in rankings_of(answer_weight(reward)).items() if reward is not None else ():
            ranking = np.array([[rank(row) for row in group] for group in rows])
            for k, s in wanted:
                values = batched.reward_at_k_s(correct, ranking, k, s)
                yield (f"reward@{k}/{name}" if s == 1 else f"reward@{k}-{s}/{name}"), values
                if s == 1:
                    yield f"selection_loss@{k}/{name}", passed[k, s] - values
            if name != "answer":
                yield f"auc/{name}", _auc(correct, ranking)
            if name == "prm" and n > 1:
                better = ranking >= np.quantile(ranking, GAP_QUANTILE, axis=1, keepdims=True)
                gap, relative = batched.gv_gap(correct, better)
                yield f"gv_gap/{name}", gap
                yield f"relative_gv_gap/{name}", relative
        if threshold is not None:
            gap, relative = batched.gv_gap(correct, rewards > threshold)
            yield "selection_gap", gap
            yield "relative_selection_gap", relative


def _copies(rows: Sequence[Sequence[ScoredResponse]], n: int) -> np.ndarray:
    """(Q, m) how often each distinct correct response was drawn, the most frequent first."""
    counts = [sorted(Counter(r.response.text for r in group if r.correct).values(), reverse=True) for group in rows]
    copies = np.zeros((len(rows), max(map(len, counts), default=0)), dtype=np.int64)
    for row, found in zip(copies, counts, strict=True):
        row[: len(found)] = found
    return copies


def _auc(correct: np.ndarray, ranking: np.ndarray) -> np.ndarray:
    """(Q,) chance that a correct response has the higher value of a correct and a wrong one; NaN without both."""
    values = np.full(len(correct), np.nan)
    for row, (right, value) in enumerate(zip(correct, ranking, strict=True)):
        if right.any() and not right.all():
            gap = value[right][:, None] - value[~right][None, :]
            values[row] = (gap > 0).mean() + 0.5 * (gap == 0).mean()
    return values


def describe_rewards(rollouts: Sequence[Rollout]) -> str:
    """Number of responses and range of their rewards, in words; how many were cut or have no answer."""
    rows = [scored for rollout in rollouts for scored in rollout.responses]
    if not rows:
        return "0 responses"
    rewards = [scored.reward for scored in rows]
    cut = sum(scored.response.finish_reason == "length" for scored in rows)
    unanswered = sum(scored.answer is None for scored in rows)
    found = f"{len(rows)} responses with rewards from {min(rewards):g} to {max(rewards):g}"
    found += f", {cut} of them cut at the token limit" if cut else ""
    return found + (f", {unanswered} without an answer" if unanswered else "")
