"""Scored rollouts in, values with intervals out: the one summary that evaluation and training both report."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.grading.extract import without_thought
from harness.grading.instructions import follows, follows_loosely
from harness.metrics import diversity, estimators
from harness.metrics.answer_classes import answer_classes
from harness.metrics.intervals import Estimate, mean_interval
from harness.types import Instruction, Problem, Rollout, ScoredResponse

Ranking = Callable[[ScoredResponse], float]
"""The number by which responses are ranked."""


def rankings_of(answer_weight: float | None) -> dict[str, Ranking]:
    """The rankings that a reward gives, by how much of it is the verdict (`harness.protocols.answer_weight`).

    `prm` is by what does not see the gold answer, the only one that there is at test time; `answer+prm` is by that with
    1 added for a right answer, as in B-STaR's training. None, where the two cannot be told apart, gives `answer` alone.
    """
    if answer_weight is None:
        return {"answer": lambda scored: scored.reward}
    return {
        "prm": lambda scored: scored.reward - answer_weight * scored.correct,
        "answer+prm": lambda scored: scored.reward + (1 - answer_weight) * scored.correct,
    }


SIGNED = ("selection_loss", "gv_gap", "relative_gv_gap")
"""Names of metrics that may be negative start with these."""

AMOUNTS = ("distinct_", "entropy", "answer_entropy", "tokens", "steps")
"""Names of metrics from 0 up that are no shares start with these; but `distinct_equation_ratio` is one."""


@dataclass(frozen=True)
class MetricConfig:
    """Which metrics are computed."""

    k: tuple[int, ...] = (1,)
    """Draws per problem, for pass@k and all others."""
    s: tuple[int, ...] = ()
    """Distinct correct responses wanted, for pass@k-s and reward@k-s."""
    tau: tuple[float, ...] = ()
    """Shares of k draws that must be correct, for gpass@k-tau; where there are any, mgpass@k is there too."""
    votes: bool = True
    """Whether answers are sorted into classes, which maj@k needs and which may take the grader's time."""
    searched: bool = False
    """The responses are a search's, best first and of any number: `first` is added, and k is at most their number."""


PASS_AT_1 = MetricConfig()
ALL = "all"
"""In place of k: everything that a search returned."""

BEST, BEST_OF_PAIRS = ("reward", "weighted_maj", "top4_maj"), ("reward", "reward_distinct")
GAP_QUANTILE = 0.5
"""The generation-verification gap is that of keeping the samples above this quantile of a problem's rewards."""


def evaluate(
    rollouts: Sequence[Rollout], config: MetricConfig = PASS_AT_1, rankings: Mapping[str, Ranking] | None = None
) -> dict[str, Estimate]:
    """All metrics of scored rollouts as means over problems with 95 % intervals, clustered by problem.

    Args:
        rollouts: every problem with the same number n of responses.
        config: which values of k and S.
        rankings: by what to rank, by name (`rankings_of`). None leaves the metrics of rewards out.

    Returns:
        By name: `accuracy`, `pass@k`, `gpass@k-tau`, `mgpass@k`, `maj@k`, `pass@k-s`; for each ranking r `reward@k/r`
        (best-of-k), `reward@k-s/r`, `reward_distinct@k-s/r` (copies merged first), `weighted_maj@k/r`, `top4_maj@k/r`
        (of the four best),
        `selection_loss@k/r` (pass@k - reward@k), `gv_gap/r`, `relative_gv_gap/r`; the means `distinct_answers`,
        `distinct_solutions`, `distinct_correct_answers`, `distinct_correct_solutions`, `distinct_equation_ratio` (over
        correct responses), `duplicates` (share of responses that repeat an earlier one), `answer_entropy` (nats),
        `entropy` (nats per token, estimated from the samples' log-probabilities), `tokens`, `steps`; and the shares
        `truncated`, `no_answer`, `parse_failure`, `timeout`. Of problems with instructions also `loose_accuracy` and
        `instructions_followed` (the mean share of a prompt's).

        Of searches also `first`: the response that a search puts first is right; and all metrics of choice with "all"
        in place of k, for everything that the search returned.

    Raises:
        ValueError: some k is more than the number of responses of some problem.
    """
    rows = [problem_metrics(rollout, config, rankings or {}) for rollout in rollouts]
    return summarize(rows, clusters_of([rollout.problem for rollout in rollouts]))


OTHER_NAMES = {"avg": "accuracy", "cons": "maj"}
"""What other programs write before @k, and our name: the mean over samples, which needs no k, and the vote."""


def own_name(metric: str) -> str:
    """Our name of a metric: `accuracy` of avg@8, `maj@8` of cons@8; any other is its own."""
    kind, at, k = metric.partition("@")
    if not at or kind not in OTHER_NAMES:
        return metric
    return OTHER_NAMES[kind] if kind == "avg" else f"{OTHER_NAMES[kind]}@{k}"


def clusters_of(problems: Sequence[Problem]) -> list[str] | None:
    """Of each problem the cluster whose problems are not independent of it; None where each is one of its own."""
    clusters = [problem.cluster or problem.id for problem in problems]
    return clusters if len(set(clusters)) < len(clusters) else None


def summarize(rows: Iterable[Mapping[str, float | None]], clusters: Sequence[str] | None = None) -> dict[str, Estimate]:
    """Mean and interval of each metric over the problems that have it, which go together by `clusters`."""
    columns: dict[str, tuple[list[float], list[str]]] = {}
    for i, row in enumerate(rows):
        for name, value in row.items():
            values, among = columns.setdefault(name, ([], []))
            if value is not None:
                values.append(value)
                if clusters is not None:
                    among.append(clusters[i])
    return {name: _mean(name, values, among or None) for name, (values, among) in columns.items()}


def _mean(name: str, values: Sequence[float], clusters: Sequence[str] | None) -> Estimate:
    if name.startswith(SIGNED):
        return mean_interval(values, False, clusters)
    if name.startswith(AMOUNTS) and name != "distinct_equation_ratio":
        estimate = mean_interval(values, False, clusters)
        return replace(estimate, low=max(0.0, estimate.low))
    return mean_interval(values, True, clusters)


def problem_metrics(
    rollout: Rollout, config: MetricConfig, rankings: Mapping[str, Ranking] | None = None
) -> dict[str, float | None]:
    """The metrics of one problem, by the names of `evaluate`; None where one is not defined for it."""
    rows = rollout.responses
    n, num_correct = len(rows), sum(row.correct for row in rows)
    if config.searched:
        return _searched(rollout, config, rankings or {})
    if n == 0:
        raise ValueError(f"problem '{rollout.problem.id}' has no responses")
    found: dict[str, float | None] = {"accuracy": num_correct / n}
    for k in config.k:
        found[f"pass@{k}"] = float(estimators.pass_at_k(n, num_correct, k))
        found |= {f"gpass@{k}-{tau:g}": estimators.g_pass_at_k(n, num_correct, k, tau) for tau in config.tau}
        if config.tau and k > 1:
            found[f"mgpass@{k}"] = estimators.mean_g_pass_at_k(n, num_correct, k)
    copies = list(Counter(row.response.text for row in rows if row.correct).values())
    for k, s in _pairs(config):
        found[f"pass@{k}-{s}"] = estimators.pass_at_k_s(n, copies, k, s)
    classes: list[int] | None = None
    if config.votes and n > 1:
        golds = {rollout.problem.answer, *rollout.problem.accepted_answers}
        classes = answer_classes(
            [row.answer for row in rows], [row.correct for row in rows], several_golds=len(golds) > 1
        )
        found |= _votes(rows, classes, config)
    for name, ranking in (rankings or {}).items():
        found |= _rewards(rows, classes, config, name, ranking)
    if rollout.problem.instructions:
        found |= _instructions(rollout.problem.instructions, rows)
    return found | _diversity(rows) | _shares(rows)


def _searched(rollout: Rollout, config: MetricConfig, rankings: Mapping[str, Ranking]) -> dict[str, float | None]:
    """The metrics of what a search returned, for each k and for `all` of it.

    Fewer than k responses are taken for k. Giving up is wrong, and a single response is what any rule would choose.
    """
    rows, n = rollout.responses, len(rollout.responses)
    alone = float(rows[0].correct) if n == 1 else 0.0
    found: dict[str, float | None] = {"first": float(rows[0].correct) if n else 0.0}
    found |= {} if n else {"accuracy": 0.0, "no_answer": 1.0}
    for label, k in {**{str(k): min(k, n) for k in config.k}, ALL: n}.items():
        found |= dict.fromkeys(_choices(label, config, rankings), alone)
        found |= {f"selection_loss@{label}/{name}": 0.0 for name in rankings if label != "1"}
        if n:
            part = problem_metrics(rollout, replace(config, k=(k,), searched=False), rankings)
            found |= {re.sub(r"@\d+", f"@{label}", name): value for name, value in part.items()}
    return found


def _choices(label: str, config: MetricConfig, rankings: Mapping[str, Ranking]) -> list[str]:
    """The metrics that are the chance of choosing right among k responses; of one response nothing can be chosen."""
    ss = [s for s in config.s if label == ALL or s <= int(label)]
    several = [] if label == "1" else [f"maj@{label}", *(f"{m}@{label}/{r}" for m in BEST for r in rankings)]
    pairs = [f"{m}@{label}-{s}/{r}" for m in BEST_OF_PAIRS for s in ss for r in rankings]
    shares = [f"gpass@{label}-{tau:g}" for tau in config.tau]
    shares += [f"mgpass@{label}"] if config.tau and label != "1" else []
    return [f"pass@{label}", *shares, *several, *(f"pass@{label}-{s}" for s in ss), *pairs]


def _pairs(config: MetricConfig) -> list[tuple[int, int]]:
    return [(k, s) for k in config.k for s in config.s if s <= k]


def _votes(rows: Sequence[ScoredResponse], classes: Sequence[int], config: MetricConfig) -> dict[str, float | None]:
    sizes = Counter(label for label in classes if label >= 0)
    right = {label for label, row in zip(classes, rows, strict=True) if row.correct}
    counts, correct = list(sizes.values()), [label in right for label in sizes]
    silent = len(rows) - sum(counts)
    found: dict[str, float | None] = {
        f"maj@{k}": estimators.maj_at_k(counts, correct, k, silent) for k in config.k if k > 1
    }
    found["distinct_answers"] = float(len(sizes))
    found["distinct_correct_answers"] = float(len(right))
    found["answer_entropy"] = diversity.entropy(counts)
    return found


def _rewards(
    rows: Sequence[ScoredResponse], classes: Sequence[int] | None, config: MetricConfig, name: str, ranking: Ranking
) -> dict[str, float | None]:
    correct, rewards = [row.correct for row in rows], [float(ranking(row)) for row in rows]
    if not all(map(math.isfinite, rewards)):
        raise ValueError(f"a reward of ranking '{name}' is not finite")
    found: dict[str, float | None] = {}
    for k in (k for k in config.k if k > 1):
        best = estimators.reward_at_k_s(correct, rewards, k)
        found[f"reward@{k}/{name}"] = best
        found[f"selection_loss@{k}/{name}"] = float(estimators.pass_at_k(len(rows), sum(correct), k)) - best
        if classes is not None:
            found[f"weighted_maj@{k}/{name}"] = estimators.weighted_maj_at_k(classes, correct, rewards, k)
            found[f"top4_maj@{k}/{name}"] = estimators.top_maj_at_k(classes, correct, rewards, k)
    texts = [row.response.text for row in rows]
    # A model's reward of one text may differ in the last digit with the batch it was scored in.
    first = {text: i for i, text in reversed([*enumerate(texts)])}
    merged = [(correct[first[text]], rewards[first[text]]) for text in texts]
    for k, s in _pairs(config):
        found[f"reward@{k}-{s}/{name}"] = estimators.reward_at_k_s(correct, rewards, k, s)
        found[f"reward_distinct@{k}-{s}/{name}"] = estimators.distinct_reward_at_k_s(
            [right for right, _ in merged], [reward for _, reward in merged], texts, k, s
        )
    if len(rows) > 1:
        kept = np.asarray(rewards) >= np.quantile(rewards, GAP_QUANTILE)
        found[f"gv_gap/{name}"] = estimators.gv_gap(correct, kept.tolist())
        found[f"relative_gv_gap/{name}"] = estimators.relative_gv_gap(correct, kept.tolist())
    return found


def _instructions(instructions: Sequence[Instruction], rows: Sequence[ScoredResponse]) -> dict[str, float | None]:
    texts = [without_thought(row.response.text) for row in rows]
    strict = [[follows(instruction, text) for instruction in instructions] for text in texts]
    loose = [all(follows_loosely(instruction, text) for instruction in instructions) for text in texts]
    return {"instructions_followed": float(np.mean(strict)), "loose_accuracy": float(np.mean(loose))}


def _diversity(rows: Sequence[ScoredResponse]) -> dict[str, float | None]:
    texts = [row.response.text for row in rows]
    right = [row.response.text for row in rows if row.correct]
    tokens = sum(len(row.response.token_ids) for row in rows)
    found: dict[str, float | None] = {
        "tokens": tokens / len(rows),
        "steps": sum(len(row.response.steps) for row in rows) / len(rows),
        "entropy": -sum(row.response.logp for row in rows) / tokens if tokens else None,
    }
    if len(rows) > 1:
        found |= {
            "distinct_solutions": float(len(set(texts))),
            "distinct_correct_solutions": float(len(set(right))),
            "duplicates": 1 - len(set(texts)) / len(texts),
            "distinct_equation_ratio": diversity.distinct_equation_ratio(right),
        }
    return found


def _shares(rows: Sequence[ScoredResponse]) -> dict[str, float | None]:
    found: dict[str, float | None] = {
        "truncated": sum(row.response.finish_reason == "length" for row in rows) / len(rows)
    }
    for status in ("no_answer", "parse_failure", "timeout"):
        found[status] = sum(row.status == status for row in rows) / len(rows)
    return found
