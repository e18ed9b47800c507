"""Explored responses on disk, what exploring them cost, and what it showed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from harness.prompts.templates import encode_prompt
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.log import complete
from harness.rollouts.step_ends import with_step_ends
from harness.search import drive
from harness.search.step_explore import Exploration, StepExplore
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse


@dataclass(frozen=True)
class Explored:
    """The wrong responses to one problem, explored; one line of the file."""

    problem: Problem
    chosen: tuple[str, ...] = ()
    """For each, the right response that it was paired with."""
    explorations: tuple[Exploration, ...] = ()
    weights: str = ""
    """Fingerprint of the policy that explored."""
    provenance: str = ""
    """Hash of all that decided what was drawn (`harness.provenance`)."""


Paired = Sequence[tuple[str, ScoredResponse]]
"""The chosen text and the rejected response of each outcome pair of a problem."""


def rejected_responses(rollout: Rollout, paired: Paired, dispatcher: Dispatcher) -> tuple[tuple[str, ...], Rollout]:
    """The chosen texts of a rollout's pairs, and a rollout of the rejected responses that knows their exact tokens.

    A step whose end falls within a token is joined with the next, so that every prefix is made of sampled tokens.
    """
    wrong = Rollout(rollout.problem, tuple(replace(rejected, correct=False) for _, rejected in paired))
    wrong = with_step_ends(wrong, dispatcher.prompt_ids(rollout.problem), dispatcher.tokenizer)
    joined = tuple(replace(s, response=joined_at_tokens(s.response)) for s in wrong.responses)
    return tuple(chosen for chosen, _ in paired), replace(wrong, responses=joined)


def joined_at_tokens(response: Response) -> Response:
    """The response with steps that all end where a token ends, the last one perhaps excepted."""
    steps: list[str] = []
    ends: list[int] = []
    for step, end in zip(response.steps, response.step_ends, strict=True):
        if ends and ends[-1] < 0:
            steps[-1], ends[-1] = steps[-1] + step, end
        else:
            steps.append(step)
            ends.append(end)
    return replace(response, steps=tuple(steps), step_ends=tuple(ends), step_values=())


def collect_explorations(
    path: str | Path,
    rollouts: Mapping[str, Rollout],
    paired: Callable[[Rollout], Paired],
    dispatcher: Dispatcher,
    search: StepExplore,
    sampling: SamplingConfig,
    *,
    pairing: object = "",
    source: str = "",
    progress: Callable[[int], None] = lambda count: None,
) -> list[Explored]:
    """Explore the rejected response of every pair into a file, and return one row for each problem.

    Rows in the file are kept as `harness.rollouts.log.complete` says.

    Args:
        path: JSONL file; it need not exist.
        rollouts: by problem id; sampled by a policy with the same tokenizer.
        paired: a problem's outcome pairs: which responses are explored, and what is chosen where the first step is the
            pit.
        dispatcher: answers the searches; its reward says which continuations are right.
        search: the exploration.
        sampling: its seed and a problem's id fix what is drawn.
        pairing: what `paired` does, by its identity.
        source: fingerprint of the rollouts; a file is not continued with others.
        progress: told how many more problems are done.
    """

    def explore(missing: Iterable[str]) -> Iterator[Explored]:
        begun = {name: rejected_responses(rollouts[name], paired(rollouts[name]), dispatcher) for name in missing}
        dispatcher.begin()
        searches = ((name, search.explore(rollout, sampling)) for name, (_, rollout) in begun.items())
        for name, found in drive(searches, dispatcher):
            yield Explored(rollouts[name].problem, begun[name][0], tuple(found), weights=dispatcher.engine.version)

    provenance = dispatcher.provenance(search, sampling=sampling, pairing=pairing, source=source)
    return complete(
        path,
        Explored,
        lambda row: row.problem.id,
        list(rollouts),
        explore,
        provenance=provenance,
        problems={name: rollout.problem for name, rollout in rollouts.items()},
        progress=progress,
    )


def cost(rows: Sequence[Explored], search: StepExplore) -> dict[str, float]:
    """Continuations and sampled tokens, and those of a plain scan of the same responses.

    The plain scan draws all samples of every step up to the pit, for each response by itself, and continues behind the
    answer. What was not drawn is counted with the mean length of the step's continuations, behind an answer with one
    token, the EOS.
    """
    drawn: Counter[str] = Counter()
    for row in rows:
        known: set[Response] = set()
        for exploration in row.explorations:
            plain = _plain_scan(exploration, search)
            drawn.update(plain_generations=plain[0], plain_tokens=plain[1])
            for step in exploration.explored:
                prefix = exploration.response.prefix(step.num_steps)
                if prefix in known and search.share_prefixes and search.order == "linear":
                    continue
                known.add(prefix)
                tokens = [len(c.completion.token_ids) for c in step.continuations]
                drawn.update(generations=len(tokens), tokens=sum(tokens))
    names = ("generations", "tokens", "plain_generations", "plain_tokens")
    return {name: drawn[name] for name in names}


def _plain_scan(exploration: Exploration, search: StepExplore) -> tuple[int, int]:
    lengths = {
        step.num_steps: fmean(len(c.completion.token_ids) for c in step.continuations) for step in exploration.explored
    }
    count = len(exploration.response.steps) if exploration.pit is None else exploration.pit + 1
    count = count if search.max_steps is None else min(count, search.max_steps)
    mean = fmean(lengths.values()) if lengths else 1.0
    behind_answer = exploration.pit is not None and exploration.pit + 1 not in lengths
    tokens = sum(lengths.get(i, 1.0 if behind_answer and i == count else mean) for i in range(1, count + 1))
    return search.samples * count, round(search.samples * tokens)


def statistics(rows: Sequence[Explored]) -> dict[str, object]:
    """Where the pits are and how often each step is sound, both by the number of the step, counted from 1."""
    pits: Counter[str] = Counter()
    sound: Counter[int] = Counter()
    explored: Counter[int] = Counter()
    for exploration in (exploration for row in rows for exploration in row.explorations):
        pits["none" if exploration.pit is None else str(exploration.pit + 1)] += 1
        for step in exploration.explored:
            explored[step.num_steps] += 1
            sound[step.num_steps] += step.sound
    return {
        "num_explored": sum(pits.values()),
        "pits_at_step": dict(sorted(pits.items())),
        "sound_share_of_step": {str(step): round(sound[step] / explored[step], 4) for step in sorted(explored)},
    }


def agreement(rows: Sequence[Explored], others: Sequence[Explored]) -> tuple[float, int]:
    """Share of the responses in both with the same pit, and their number; for comparing orders of exploration."""
    pits = {(row.problem.id, one.response.text): one.pit for row in others for one in row.explorations}
    same = [
        pits[key] == one.pit
        for row in rows
        for one in row.explorations
        if (key := (row.problem.id, one.response.text)) in pits
    ]
    return (fmean(same) if same else 0.0), len(same)


def retokenized(rows: Sequence[Explored], dispatcher: Dispatcher) -> int:
    """Prefixes of pairs whose text, read by the tokenizer again, gives other tokens than were sampled."""
    changed = 0
    for row in rows:
        prompt = dispatcher.template.render(row.problem, dispatcher.tokenizer)
        for one in row.explorations:
            prefix = one.response.prefix(one.pit or 0)
            sampled = dispatcher.prompt_ids(row.problem) + dispatcher.response_ids(prefix)
            changed += encode_prompt(prompt + prefix.text, dispatcher.tokenizer, dispatcher.template.chat) != sampled
    return changed
