"""One iteration of self-improvement up to its training rows: decide, sample, score, select. Knows nothing of training.

An iteration's files lie side by side; `manifest` is written last and marks it complete:

    iter_003.probe.jsonl   scored rollouts of the probe problems, one block per temperature
    iter_003.jsonl         scored rollouts of the training problems
    iter_003.hinted.jsonl  with a hint only: scored rollouts of the problems without a right response, the answer shown
    iter_003.train.jsonl   the rows to train on
    iter_003.json          the manifest: decision, monitors, hashes of the others
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.grading.graders import named as find_grader
from harness.metrics.monitors import describe_rewards, monitors
from harness.problems import shared_questions
from harness.prompts.templates import PromptTemplate
from harness.protocols import Demanding, Refilling, Reward, SamplingScheduler, SearchMethod, Selector, answer_weight
from harness.provenance import contents, identity
from harness.rewards import Outcome
from harness.rollouts.collect import collect, grade_again
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.log import RolloutLog
from harness.rollouts.team import Block, Draw, Kind, Team
from harness.search import Sampling
from harness.store import (
    file_hash,
    read_json,
    read_jsonl,
    sealed,
    stable_hash,
    to_dict,
    to_row,
    write_json,
    write_rows,
)
from harness.streams import Lazy
from harness.types import Problem, Rollout, RolloutConfig, SamplingConfig, SFTExample

Progress = Callable[[str, int, int], None]
"""Told (phase, problems done, problems in all) whenever problems are finished; may raise to stop there."""


@dataclass(frozen=True)
class Replay:
    """Rows trained on in every iteration beside the selected ones, drawn afresh each time."""

    rows: Sequence[SFTExample] = ()
    share: float = 0.0
    """Replayed rows for each selected row."""


@dataclass(frozen=True)
class Iteration:
    """What every iteration does; `run` does it for one of them."""

    problems: Sequence[Problem]
    """Training problems."""
    scheduler: SamplingScheduler
    select: Selector
    probe_problems: Sequence[Problem] = ()
    """Problems on which the scheduler compares settings; they must not be training problems but where asked for."""
    probe_among_problems: bool = False
    """Take probe problems that are training problems too, as B-STaR does."""
    reward: Reward | None = None
    search: SearchMethod | None = None
    problems_per_iteration: int | None = None
    """Problems sampled in one iteration, the next ones of a shuffled round; None is all of them."""
    replay: Replay = field(default_factory=Replay)
    grader: str = "strict"
    hint: str = ""
    """Prompt with `{question}` and `{answer}` by which problems without a right response are sampled again (STaR's
    rationalisation, arXiv:2203.14465, section 3.2). Right responses to it become rows under the plain prompt."""
    seed: int = 0
    staleness: int = 0
    """How many iterations of training lie between the weights that sample an iteration and those that its training
    starts from, but for the first, before which there are none."""

    def check(self) -> None:
        """Raise `InputError` if nothing could be learnt from what would be sampled, as far as that is known beforehand,
        or if, unasked, probe problems are training problems, which biases the choice."""
        sampling = getattr(self.scheduler, "sampling", None)
        if isinstance(self.select, Demanding) and isinstance(sampling, SamplingConfig) and self._independent:
            self.select.check_sampling(sampling)
        shared = [] if self.probe_among_problems else shared_questions(self.probe_problems, self.problems)
        if shared:
            raise InputError(
                f"{len(shared)} of {len(self.probe_problems)} probe problems are also training problems "
                f"(such as '{shared[0]}'); remove them from one of the two files, or set probe_among_problems."
            )

    @property
    def _independent(self) -> bool:
        return self.search is None or isinstance(self.search, Sampling)

    def asked(self, template: PromptTemplate) -> dict[str, Any]:
        """All that decides an iteration's training rows but the policy and its engine, as JSON."""
        return {
            "template": identity(template),
            "problems": contents(self.problems),
            "probe_problems": contents(self.probe_problems),
            "replay": {"rows": contents(self.replay.rows), "share": self.replay.share},
            "reward": identity(self.reward or Outcome()),
            "search": identity(self.search),
            "grader": find_grader(self.grader).label,
            "scheduler": identity(self.scheduler),
            "select": identity(self.select),
            "problems_per_iteration": self.problems_per_iteration,
            "hint": self.hint,
            "seed": self.seed,
            **({"staleness": self.staleness} if self.staleness else {}),  # manifests of earlier versions lack it
        }

    def chosen_problems(self, iteration: int) -> list[Problem]:
        """The training problems of an iteration, counted from 1."""
        size, count = len(self.problems), self.problems_per_iteration
        if count is None or count >= size:
            return list(self.problems)
        picked: list[Problem] = []
        position = (iteration - 1) * count
        while len(picked) < count:
            order = list(self.problems)
            random.Random(stable_hash(self.seed, "problems", position // size)).shuffle(order)
            start = position % size
            block = order[start : start + count - len(picked)]
            picked += block
            position += len(block)
        return list({problem.id: problem for problem in picked}.values())

    def run(
        self,
        iteration: int,
        folder: Path,
        dispatcher: Dispatcher,
        progress: Progress = lambda *_: None,
        team: Team | None = None,
        staleness: int = 0,
    ) -> dict[str, Any]:
        """Sample and select one iteration, reading back what its files hold; return its manifest.

        Args:
            team: who samples; default is this process alone. The other ranks of a team call `follow` meanwhile.
            staleness: iterations whose training the engine's weights lack, for the manifest.
        """
        paths, team = IterationFiles(folder, iteration), team or Team()
        seconds, tokens = {}, {}
        efforts = list(team.efforts)

        started, before = time.perf_counter(), team.num_tokens
        with self._log(paths.probe, dispatcher, team) as log:
            decision = self.scheduler.decide(iteration, _Probe(self, iteration, log, dispatcher, progress))
        seconds["probe"], tokens["probe"] = time.perf_counter() - started, team.num_tokens - before

        started, before = time.perf_counter(), team.num_tokens
        sampling = replace(decision[0].sampling, seed=stable_hash(self.seed, iteration, "train", bits=31))
        with self._log(paths.rollouts, dispatcher, team) as log:
            problems = self.chosen_problems(iteration)
            self._sample(problems, sampling, log, dispatcher, progress, "sample", iteration)
            for further in self._further_problems(iteration, problems, lambda: log.rows, decision[0]):
                self._sample(further, sampling, log, dispatcher, progress, "sample further", iteration)
            rollouts = log.rows
        seconds["sample"], tokens["sample"] = time.perf_counter() - started, team.num_tokens - before

        config, account = self.scheduler.refine(decision, rollouts)
        written = [paths.probe, paths.rollouts, paths.train]
        learnt = self._enough(rollouts, len(problems), config)
        known, hints = learnt, {}
        if self.hint:
            started, before = time.perf_counter(), team.num_tokens
            helper = hinting(dispatcher, self.hint)
            with self._log(paths.hinted, helper, team) as log:
                hinted = self._hinted(learnt, sampling, log, helper, progress)
            known, hints = with_hinted(learnt, hinted), {"rationalized_share": rationalized_share(hinted)}
            seconds["hint"], tokens["hint"] = time.perf_counter() - started, team.num_tokens - before
            written.append(paths.hinted)
        rows, counts = self.select(
            known, config, lambda problem: dispatcher.template.render(problem, dispatcher.tokenizer)
        )
        if not rows:
            raise InputError(
                f"iteration {iteration}: no response was kept of {describe_rewards(known)}; lower the reward threshold "
                f"({config.reward_threshold:g}), sample more, or start from a better policy."
            )
        write_rows(paths.train, self._with_replay(rows, iteration))
        manifest = sealed(
            {
                "iteration": iteration,
                "asked": self.asked(dispatcher.template),
                "weights": dispatcher.engine.version,
                "staleness": staleness,
                "engine": dispatcher.engine.name,
                "seeds": getattr(dispatcher.engine, "seeds", "request"),
                "config": to_dict(config),
                "decision": account,
                "answer_weight": answer_weight(self.reward or Outcome()),
                "monitors": {
                    **monitors(rollouts, self.reward or Outcome(), config.reward_threshold),
                    **hints,
                    **counts,
                },
                "seconds": seconds,
                "tokens": tokens,
                "ranks": [now - then for now, then in zip(team.efforts, efforts, strict=True)],
                "hashes": {p.name: file_hash(p) for p in written},
            }
        )
        write_json(paths.manifest, manifest)
        return manifest

    def _further_problems(
        self, iteration: int, first: Sequence[Problem], drawn: Callable[[], Sequence[Rollout]], config: RolloutConfig
    ) -> Iterator[list[Problem]]:
        """Rounds of problems in place of those that teach a `Refilling` selector nothing.

        The caller samples each round's problems, which `drawn` then knows too, before it asks for the next. A round has
        as many problems as the share that teaches makes likely to be enough, at most as many as `first`.
        """
        if not isinstance(self.select, Refilling) or not self.select.max_rounds:
            return
        taken = {problem.id for problem in first}
        rest = [problem for problem in self.problems if problem.id not in taken]
        random.Random(stable_hash(self.seed, "refill", iteration)).shuffle(rest)
        for _ in range(self.select.max_rounds):
            rollouts = drawn()
            useful = sum(self.select.teaches(rollout, config) for rollout in rollouts)
            missing = len(first) - useful
            if missing <= 0 or not rest:
                return
            count = min(len(first), math.ceil(missing * len(rollouts) / max(useful, 1)))
            yield rest[:count]
            rest = rest[count:]

    def _enough(self, rollouts: Sequence[Rollout], count: int, config: RolloutConfig) -> Sequence[Rollout]:
        """Rollouts up to the one by which as many problems teach as an iteration begins with; the last round of
        further problems may bring more, and every iteration is to have as many."""
        if not isinstance(self.select, Refilling) or not self.select.max_rounds:
            return rollouts
        taught = 0
        for number, rollout in enumerate(rollouts, 1):
            taught += self.select.teaches(rollout, config)
            if taught == count:
                return rollouts[:number]
        return rollouts

    def follow(self, block: Block, folder: Path, dispatcher: Dispatcher, team: Team) -> None:
        """On another rank than the first: take part in a block that `run` has announced there."""
        pool = self.probe_problems if block.kind == "probe" else self.problems
        shown = hinting(dispatcher, self.hint) if block.kind == "hint" else dispatcher
        key = shown.provenance(self.search, reward=self.reward, grader=self.grader).key
        draw = self._draw(shown, block.sampling, block.iteration)
        by_id = {problem.id: problem for problem in pool}
        for _ in team.take_part(block, by_id, folder / block.file, key, draw, lambda: shown.num_tokens):
            pass

    def _log(self, path: Path, dispatcher: Dispatcher, team: Team) -> RolloutLog:
        """The rollouts that a file holds, and those that are added to it."""
        made_by = dispatcher.provenance(self.search, reward=self.reward, grader=self.grader)

        def judge(rollouts: Sequence[Rollout]) -> Iterable[Rollout]:
            return grade_again(rollouts, dispatcher, search=self.search, reward=self.reward, grader=self.grader)

        return RolloutLog(path, made_by, judge, team, lambda: dispatcher.num_tokens)

    def _draw(self, dispatcher: Dispatcher, sampling: SamplingConfig, iteration: int) -> Draw:
        def draw(problems: Iterable[Problem], window: int) -> Iterable[Rollout]:
            return collect(
                problems,
                dispatcher,
                sampling,
                search=self.search,
                reward=self.reward,
                grader=self.grader,
                iteration=iteration,
                max_in_flight=window,
            )

        return draw

    def _sample(
        self,
        problems: Sequence[Problem],
        sampling: SamplingConfig,
        log: RolloutLog,
        dispatcher: Dispatcher,
        progress: Progress,
        phase: str,
        iteration: int,
        kind: Kind = "sample",
    ) -> Sequence[Rollout]:
        return log.block(
            problems,
            sampling,
            self._draw(dispatcher, sampling, iteration),
            kind=kind,
            iteration=iteration,
            width=sampling.n if self._independent else 1,
            progress=lambda done: progress(phase, done, len(problems)),
        )

    def _hinted(
        self,
        rollouts: Sequence[Rollout],
        sampling: SamplingConfig,
        log: RolloutLog,
        dispatcher: Dispatcher,
        progress: Progress,
    ) -> Sequence[Rollout]:
        """Sample the problems without a right response again, by a dispatcher that shows the answer."""
        failed = [rollout.problem for rollout in rollouts if not any(scored.correct for scored in rollout.responses)]
        iteration = rollouts[0].iteration if rollouts else 0
        sampling = replace(sampling, seed=stable_hash(sampling.seed, "hint", bits=31))
        return self._sample(failed, sampling, log, dispatcher, progress, "sample with hints", iteration, "hint")

    def _with_replay(self, rows: Sequence[Any], iteration: int) -> Iterable[Any]:
        count = round(len(rows) * self.replay.share)
        if not count:
            return rows
        rng = random.Random(stable_hash(self.seed, "replay", iteration))
        return itertools.chain(rows, rng.sample(list(self.replay.rows), min(count, len(self.replay.rows))))


def hinting(dispatcher: Dispatcher, hint: str) -> Dispatcher:
    """A dispatcher over the same engine whose prompts are hints."""
    template = replace(dispatcher.template, user=hint)
    return Dispatcher(
        dispatcher.engine, dispatcher.tokenizer, template, dispatcher.reward, dispatcher.executor, dispatcher.grader
    )


def with_hinted(rollouts: Sequence[Rollout], hinted: Sequence[Rollout]) -> Sequence[Rollout]:
    """The rollouts, and beside their responses the right ones to the same problem with a hint."""
    places = {row.problem.id: place for place, row in enumerate(hinted)}

    def both(number: int) -> Rollout:
        row = rollouts[number]
        if row.problem.id not in places:
            return row
        right = tuple(scored for scored in hinted[places[row.problem.id]].responses if scored.correct)
        return replace(row, responses=row.responses + right)

    return Lazy(both, range(len(rollouts)))


def rationalized_share(hinted: Sequence[Rollout]) -> float:
    """Share of the problems sampled with a hint that got a right response."""
    return sum(any(scored.correct for scored in row.responses) for row in hinted) / max(len(hinted), 1)


class _Probe:
    """Implements `harness.protocols.Probe` for one iteration."""

    def __init__(
        self, plan: Iteration, iteration: int, log: RolloutLog, dispatcher: Dispatcher, progress: Progress
    ) -> None:
        self._plan, self._iteration, self._log, self._dispatcher = plan, iteration, log, dispatcher
        self._progress = progress

    @property
    def num_problems(self) -> int:
        return len(self._plan.probe_problems)

    def __call__(self, sampling: SamplingConfig, start: int = 0, stop: int | None = None) -> Sequence[Rollout]:
        if not self._plan.probe_problems:
            raise InputError("this scheduler compares settings on probe problems, but none were given.")
        problems = self._plan.probe_problems[start:stop]
        # Every setting is probed with the same random numbers, which makes their comparison less noisy.
        sampling = replace(sampling, seed=stable_hash(self._plan.seed, self._iteration, "probe", bits=31))
        phase = f"probe at temperature {sampling.temperature:g}"
        return self._plan._sample(
            problems, sampling, self._log, self._dispatcher, self._progress, phase, self._iteration, "probe"
        )


@dataclass(frozen=True)
class IterationFiles:
    """Where the files of an iteration lie."""

    folder: Path
    iteration: int

    @property
    def probe(self) -> Path:
        return self.folder / f"iter_{self.iteration:03d}.probe.jsonl"

    @property
    def rollouts(self) -> Path:
        return self.folder / f"iter_{self.iteration:03d}.jsonl"

    @property
    def hinted(self) -> Path:
        return self.folder / f"iter_{self.iteration:03d}.hinted.jsonl"

    @property
    def train(self) -> Path:
        return self.folder / f"iter_{self.iteration:03d}.train.jsonl"

    @property
    def manifest(self) -> Path:
        return self.folder / f"iter_{self.iteration:03d}.json"


def read_manifest(path: Path) -> dict[str, Any]:
    """What an iteration or a measurement of the policy left, whose other files are checked by their hashes.

    Raises:
        InputError: one of the files is damaged, changed or gone.
    """
    manifest = read_json(path, "restore it, or start anew")
    check_hashes(manifest, path.parent)
    return manifest


def check_hashes(manifest: Mapping[str, Any], folder: Path) -> None:
    """Raise `InputError` if a file of a complete iteration is not the one its manifest was written for."""
    for name, wanted in (manifest.get("hashes") or {}).items():
        path = folder / name
        if not path.is_file() or file_hash(path) != wanted:
            raise InputError(
                f"{path}: changed or removed since the iteration was completed; restore it, or start anew."
            )


def replay_rows(paths: Sequence[str | Path], render: Callable[[Problem], str]) -> list[SFTExample]:
    """Rows to replay, from files of `prompt` and `response`, or of problems with a worked `solution`."""
    rows = []
    for path in paths:
        for number, data in read_jsonl(path):
            if "prompt" in data and "response" in data:
                rows.append(to_row(SFTExample, data, f"{path}:{number}"))
            elif question := data.get("question") or data.get("problem"):
                if not data.get("solution"):
                    raise InputError(f"{path}:{number}: no 'solution' to replay; found {sorted(data)}.")
                problem = Problem(str(data.get("id", number)), question)
                rows.append(SFTExample(render(problem), data["solution"], problem_id=problem.id))
            else:
                raise InputError(f"{path}:{number}: needs 'prompt' and 'response', or 'question' and 'solution'.")
    return rows
