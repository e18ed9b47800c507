"""What an iteration's rollouts look like, in numbers."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from harness.metrics import batched
from harness.metrics.diversity import distinct_equation_ratio
from harness.metrics.summary import GAP_QUANTILE, Ranking, rankings_of
from harness.protocols import Reward, answer_weight
from harness.types import Rollout

WANTED = (1, 4)
"""Values of S in Pass@K-S and Reward@K-S."""


def monitors(
    rollouts: Iterable[Rollout], reward: Reward | None = None, threshold: float | None = None
) -> dict[str, float]:
    """Accuracy, coverage, diversity, length and reward of scored rollouts, and how well the reward ranks them.

    Args:
        rollouts: scored; gone through once.
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
    gathered = _Gathered({} if reward is None else rankings_of(answer_weight(reward)))
    for rollout in rollouts:
        gathered.add(rollout)
    sums = gathered.sums
    count, problems = max(len(gathered.rewards), 1), max(len(gathered.sizes), 1)
    found = {
        "num_problems": len(gathered.sizes),
        "num_responses": len(gathered.rewards),
        "accuracy": sum(gathered.correct) / count,
        "solved": sums["solved"] / problems,
        "distinct_correct": sums["distinct_correct"] / problems,
        "distinct_answers": sums["distinct_answers"] / problems,
        "duplicate_share": 1 - sums["distinct"] / count,
        "no_answer_share": sums["no_answer"] / count,
        "cut_share": sums["cut"] / count,
        "mean_reward": sum(gathered.rewards) / count,
        "mean_tokens": sums["tokens"] / count,
        "entropy": -sum(gathered.logps) / max(sums["tokens"], 1),
    }
    if gathered.ratios:
        found["distinct_equation_ratio"] = float(np.mean(gathered.ratios))
    columns: dict[str, list[np.ndarray]] = {}
    for name, values in _ranked(gathered, threshold):
        columns.setdefault(name, []).append(values)
    for name, parts in columns.items():
        values = np.concatenate(parts)
        if not np.isnan(values).all():
            found[name] = float(np.nanmean(values))
    return found


class _Gathered:
    """What monitors need of rollouts that are gone through once: numbers, no texts and no tokens."""

    def __init__(self, rankings: Mapping[str, Ranking]) -> None:
        self.rankings = rankings
        self.sizes: list[int] = []
        """Responses to each problem."""
        self.copies: list[list[int]] = []
        """How often each distinct correct response to a problem was drawn, the most frequent first."""
        self.ratios: list[float] = []
        self.sums: Counter[str] = Counter()
        # Of each response, in order.
        self.correct = bytearray()
        self.rewards, self.logps = array("d"), array("d")
        self.ranked = {name: array("d") for name in rankings}

    def add(self, rollout: Rollout) -> None:
        rows = rollout.responses
        texts = [row.response.text for row in rows]
        correct = [text for text, row in zip(texts, rows, strict=True) if row.correct]
        copies = Counter(correct)
        self.sizes.append(len(rows))
        self.copies.append(sorted(copies.values(), reverse=True))
        self.correct.extend(bool(row.correct) for row in rows)
        self.rewards.extend(row.reward for row in rows)
        self.logps.extend(row.response.logp for row in rows)
        for name, rank in self.rankings.items():
            self.ranked[name].extend(map(rank, rows))
        if (ratio := distinct_equation_ratio(correct)) is not None:
            self.ratios.append(ratio)
        self.sums.update(
            solved=bool(correct),
            distinct_correct=len(copies),
            distinct_answers=len({row.answer for row in rows if row.answer is not None}),
            distinct=len(set(texts)),
            no_answer=sum(row.answer is None for row in rows),
            cut=sum(row.response.finish_reason == "length" for row in rows),
            tokens=sum(len(row.response.token_ids) for row in rows),
        )


def _ranked(gathered: _Gathered, threshold: float | None) -> Iterator[tuple[str, np.ndarray]]:
    """(name, values by problem) of what depends on the number of responses, for the problems of each such number."""
    sizes = np.array(gathered.sizes, dtype=np.int64)
    firsts = sizes.cumsum() - sizes
    smallest = min(gathered.sizes, default=0)
    budgets = sorted({k for k in (smallest // 2, smallest) if k > 1})
    for n in dict.fromkeys(gathered.sizes) if smallest else ():
        alike = np.flatnonzero(sizes == n)
        rows = firsts[alike, None] + np.arange(n)
        correct = np.frombuffer(gathered.correct, dtype=bool)[rows]
        rewards = np.frombuffer(gathered.rewards)[rows]
        copies = _padded([gathered.copies[number] for number in alike])
        wanted = [(k, s) for k in budgets for s in WANTED if s <= k]
        passed = {(k, s): batched.pass_at_k_s(copies, n, k, s) for k, s in wanted}
        for (k, s), values in passed.items():
            yield (f"pass@{k}" if s == 1 else f"pass@{k}-{s}"), values
        for name, column in gathered.ranked.items():
            ranking = np.frombuffer(column)[rows]
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


def _padded(counts: Sequence[Sequence[int]]) -> np.ndarray:
    """(Q, m) numbers of each problem, and zeros behind them."""
    copies = np.zeros((len(counts), max(map(len, counts), default=0)), dtype=np.int64)
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


def describe_rewards(rollouts: Iterable[Rollout]) -> str:
    """Number of responses and range of their rewards, in words; how many were cut or have no answer."""
    rewards, cut, unanswered = array("d"), 0, 0
    for rollout in rollouts:
        rewards.extend(scored.reward for scored in rollout.responses)
        cut += sum(scored.response.finish_reason == "length" for scored in rollout.responses)
        unanswered += sum(scored.answer is None for scored in rollout.responses)
    if not rewards:
        return "0 responses"
    found = f"{len(rewards)} responses with rewards from {min(rewards):g} to {max(rewards):g}"
    found += f", {cut} of them cut at the token limit" if cut else ""
    return found + (f", {unanswered} without an answer" if unanswered else "")
