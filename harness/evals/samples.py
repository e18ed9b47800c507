"""Samples on disk, one key each: what was drawn before is read back, and nothing is drawn twice."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import InputError
from harness.lines import Lines
from harness.locks import only_writer
from harness.protocols import Search, SearchMethod
from harness.provenance import Provenance, identity, tell_unknown, unknown_parts
from harness.rollouts.dispatcher import Dispatcher, problem_seed
from harness.search import Sampling
from harness.search.meter import Meter, metered
from harness.store import AppendLog, file_hash, parse_line, read_json, read_lines, to_json, to_row, write_lines
from harness.streams import Spool
from harness.types import AnswerStatus, Problem, Response, Rollout, SamplingConfig, ScoredResponse

log = logging.getLogger(__name__)

RESULTS = "results.json"
SAMPLES = "samples.jsonl.gz"
LOG = "samples.log.jsonl"
AGAIN = "run `harness eval` there again"
GAVE_UP = -1
NO_PROBLEM = Problem("", "")
KEY, PROVENANCE, NO_PROVENANCE = b'{"key": "', b'"provenance": "', b'"provenance": ""'
"""How the line of a sample begins, and what it holds that says what drew it; in a text quotes would be escaped."""
HEAD = re.compile(rb'\{"key": "[^"\\]*", "problem_id": "(?:[^"\\]|\\.)*", "index": \d+, "response": \{')
BEHIND = re.compile(rb'\}, "(?:of|search_tokens|answer|correct|status|reward|problem|provenance)": ')
"""What stands before the response in such a line and behind it, which holds no other object."""
TOKEN_IDS = b'"token_ids": ['
UNREAD = -1
"""In place of token ids of which only the number was read."""
What = Literal["all", "texts", "verdicts"]
"""What is read of samples: all, all but which tokens they are (in half the time), or no responses (in a third)."""


@dataclass(frozen=True)
class Sample:
    """One response of an evaluation, as it stands in `samples.jsonl.gz`."""

    key: str
    """Hash of all that decides the draw, the seed and the index included."""
    problem_id: str
    index: int
    """Number of the sample among those of its problem."""
    response: Response
    of: int = 0
    """Responses that the same search returned; 0 for independent samples, of which more can be drawn. `GAVE_UP` marks
    a search that returned none; that row has no response."""
    search_tokens: int = 0
    """Tokens drawn for the problem by the search, those of responses it dropped included; 0 for independent samples."""
    answer: str | None = None
    correct: bool = False
    status: AnswerStatus = "ok"
    reward: float = 0.0
    problem: Problem = NO_PROBLEM
    """Left out of the log, where the id says enough."""
    provenance: str = ""
    """Hash of what drew and judged it (`harness.provenance`), beside its sampling."""


class SampleStore:
    """The samples of one evaluation directory.

    While an evaluation runs, every finished response is appended to a log at once; at its end all samples of the
    directory go into one compressed file, in the order of problems and indices, and the log goes away. Samples of
    other settings in the same directory are kept. Use as a context manager; a second process is refused.

    Args:
        provenance: what draws and judges the samples now; `sampling` is no part of it.
        beside: folders of evaluations whose samples are used as well, where they are the same draws.
    """

    def __init__(
        self,
        folder: Path,
        dispatcher: Dispatcher,
        sampling: SamplingConfig,
        search: SearchMethod | None,
        provenance: Provenance,
        beside: Sequence[Path] = (),
    ) -> None:
        self.folder, self.dispatcher, self.sampling = folder, dispatcher, sampling
        self.search = search or Sampling()
        self.provenance, self._beside = provenance, beside
        self.search_tokens: dict[str, int] = {}
        """By problem id, the tokens that a search drew for it; empty for independent samples."""
        self._independent = isinstance(self.search, Sampling)
        self._draws: dict[str, str] = {}
        self._scored: dict[str, tuple[int, int]] = {}
        """By problem id, where its scored samples stand in `_spool`, and how many they are."""
        self._held = contextlib.ExitStack()

    def __enter__(self) -> SampleStore:
        with contextlib.ExitStack() as held:
            held.enter_context(only_writer(self.folder, folder=True))
            self._log = held.enter_context(AppendLog(self.folder / LOG))
            self._spool = Spool(self.folder)
            self._rows = KeyedSamples([self.folder / SAMPLES, self.folder / LOG])
            self._borrowed = KeyedSamples([folder / SAMPLES for folder in self._beside])
            if old := self._rows.num_unaccounted:
                log.warning(
                    "%s: %d samples are of a version that did not write down what drew them; they are kept, not used.",
                    self.folder, old,
                )  # fmt: skip
            if len(self._rows):
                unknown = unknown_parts(self.provenance.drawn)
                tell_unknown(self.folder, unknown, "what was drawn with it is taken as it is")
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def key(self, problem: Problem, index: int) -> str:
        """The key of a sample: equal keys are the same draw."""
        if problem.id not in self._draws:
            self._draws[problem.id] = self._draw(problem)
        return hashlib.sha256(f"{self._draws[problem.id]}{index}".encode()).hexdigest()[:20]

    def _draw(self, problem: Problem) -> str:
        """All that decides the samples of a problem but their index."""
        parts = [
            self.provenance.key.partition("-")[0],
            {name: identity(getattr(problem, name)) for name in self.provenance.asked},
            self.dispatcher.prompt_ids(problem),
            replace(self.sampling, n=1 if self._independent else self.sampling.n, seed=0).identity(),
            problem_seed(self.sampling, problem),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _samples(self, problem: Problem, *places: KeyedSamples) -> list[Sample]:
        """The samples on disk, as many as are complete from the first on, from the first place that has one."""
        found: list[Sample] = []
        while not self._independent or len(found) < self.sampling.n:
            key = self.key(problem, len(found))
            sample = next((each[key] for each in places if key in each), None)
            if sample is None:
                break
            if not self._independent:
                self.search_tokens[problem.id] = sample.search_tokens
            found.append(sample)
        if not self._independent and any(sample.of != len(found) for sample in found):
            return []  # some of its lines are missing, or there was nothing to return
        return found

    def num_stored(self, problem: Problem) -> int:
        """How many samples are on disk, from the first on."""
        if not self._independent:
            return len(self._samples(problem, self._rows, self._borrowed))
        keys = (self.key(problem, index) for index in range(self.sampling.n))
        return sum(1 for _ in itertools.takewhile(lambda key: key in self._rows or key in self._borrowed, keys))

    def stored(self, problem: Problem) -> Rollout:
        """The problem with the responses that are on disk already, as many as are complete from the first on."""
        found = self._samples(problem, self._rows, self._borrowed)
        scored = tuple(ScoredResponse(self._cut(sample.response)) for sample in found)
        return Rollout(problem, scored, self.sampling, 0, self.dispatcher.engine.version)

    def judged(self, problem: Problem) -> Rollout | None:
        """As `stored`, with the verdicts and rewards of a folder beside this one, where they are those of now."""
        if not len(self._borrowed):
            return None
        found = self._samples(problem, self._borrowed)
        if len(found) < self.num_stored(problem):
            return None
        if any(row.provenance != self.provenance.key or row.problem != problem for row in found):
            return None
        scored = tuple(ScoredResponse(r.response, r.answer, r.correct, r.reward, r.status) for r in found)
        return Rollout(problem, scored, self.sampling, 0, self.dispatcher.engine.version)

    def complete(self, problem: Problem) -> bool:
        """Whether nothing more has to be drawn for a problem."""
        if self._independent:
            return self.num_stored(problem) == self.sampling.n
        key = self.key(problem, 0)
        first = next((each[key] for each in (self._rows, self._borrowed) if key in each), None)
        return first is not None and (first.of == GAVE_UP or bool(self.num_stored(problem)))

    def _cut(self, response: Response) -> Response:
        """An independent sample in the protocol's steps; the steps of a search are its own, its values if it judges."""
        if not self._independent:
            return response if getattr(self.search, "judges", True) else replace(response, step_values=())
        return replace(response, steps=self.dispatcher.template.steps.split(response.text), step_values=())

    def recorded(self) -> SearchMethod:
        """The search, made to append what it returns to the log as soon as it returns."""

        def method(rollout: Rollout, sampling: SamplingConfig) -> Search:
            def run() -> Search:
                meter = Meter()
                responses = yield from metered(self.search(rollout, sampling), meter)
                if not self._independent:
                    self.search_tokens[rollout.problem.id] = meter.tokens
                # Engines differ in the last digits with the size of a batch, which a resumed run may not repeat.
                responses = [replace(r, logp=round(r.logp, 3), token_logps=()) for r in responses]
                self._append(rollout.problem, len(rollout.responses), responses)
                return responses

            return run()

        return method

    def _append(self, problem: Problem, first: int, responses: Sequence[Response]) -> None:
        of = 0 if self._independent else len(responses) or GAVE_UP
        tokens = self.search_tokens.get(problem.id, 0)
        key = self.provenance.key
        self._log.extend(
            Sample(self.key(problem, index), problem.id, index, response, of, tokens, provenance=key)
            for index, response in enumerate(responses or ([] if self._independent else [Response()]), first)
        )

    def keep(self, rollout: Rollout) -> None:
        """Take the scored samples of a problem, in place of those taken before; memory does not hold them."""
        problem, of = rollout.problem, 0 if self._independent else len(rollout.responses) or GAVE_UP
        tokens = self.search_tokens.get(problem.id, 0)
        rows = [
            Sample(
                self.key(problem, index),
                problem.id,
                index,
                scored.response,
                of,
                tokens,
                scored.answer,
                scored.correct,
                scored.status,
                scored.reward,
                problem,
                self.provenance.key,
            )
            for index, scored in enumerate(rollout.responses or [ScoredResponse(Response())])
        ]
        lines = "".join(to_json(row) + "\n" for row in rows).encode()
        try:
            self._scored[problem.id] = self._spool.append(lines), len(rows)
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be written ({error.strerror}); what was drawn is in {LOG}."
            ) from None

    def kept_rollout(self, problem: Problem) -> Rollout:
        """The problem with the scored responses that were taken of it."""
        place = str(self.folder / SAMPLES)
        rows = [row for line in self._lines(problem) if (row := _sample(line, place)).of != GAVE_UP]
        scored = tuple(ScoredResponse(r.response, r.answer, r.correct, r.reward, r.status) for r in rows)
        return Rollout(problem, scored, self.sampling, 0, self.dispatcher.engine.version)

    def _lines(self, problem: Problem) -> list[bytes]:
        if problem.id not in self._scored:
            return []
        return self._spool[self._scored[problem.id][0]].splitlines(keepends=True)

    def finish(self, problems: Sequence[Problem]) -> None:
        """Write the compressed file from what was kept and whatever else the directory holds; remove the log."""
        mine = {self.key(problem, i) for problem in problems for i in range(self._scored[problem.id][-1])}
        others = sorted(_order(self._rows[key]) for key in self._rows if key not in mine)

        def lines() -> Iterator[bytes]:
            for problem in problems:
                yield from self._lines(problem)
            for *_, key in others:
                yield (to_json(self._rows[key]) + "\n").encode()

        write_lines(self.folder / SAMPLES, lines())
        (self.folder / LOG).unlink(missing_ok=True)


class KeyedSamples:
    """The samples of those files that exist, by key; of equal keys the last is found. They are read when taken."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [Lines(path) for path in paths if path.exists()]
        self._places: dict[str, int] = {}
        """By key the number of the file and that of the line, in one number."""
        self.num_unaccounted = 0
        """Samples that do not say what drew them."""
        for number, lines in enumerate(self._files):
            for count, line in enumerate(lines.scan()):
                if line.strip():
                    self._places[_key(line, f"{lines.path}:{count + 1}")] = count * len(self._files) + number
                    self.num_unaccounted += PROVENANCE not in line or NO_PROVENANCE in line

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> Sample:
        count, number = divmod(self._places[key], len(self._files))
        return _sample(self._files[number][count], f"{self._files[number].path}:{count + 1}")


def _sample(line: bytes, place: str) -> Sample:
    return to_row(Sample, parse_line(line, place), place)


def _key(line: bytes, place: str) -> str:
    """The key of a sample, which stands first in what is written here, so that the rest need not be read."""
    start = len(KEY)
    end = line.find(b'"', start)
    if line.startswith(KEY) and end > 0 and line[start:end].isalnum() and line.rstrip().endswith(b"}"):
        return line[start:end].decode()
    return _sample(line, place).key


def _order(row: Sample) -> tuple[str, int, str]:
    return row.problem_id, row.index, row.key


def read_results(folder: Path) -> dict[str, Any]:
    """The document of a finished evaluation; raises `InputError` if it cannot be read."""
    path = folder / RESULTS
    results = read_json(path, AGAIN)
    if missing := [name for name in ("task", "metrics", "counts", "hashes", "protocol") if name not in results]:
        raise InputError(f"{path}: '{missing[0]}' is missing; {AGAIN}.")
    return results


def read_samples(folder: Path) -> list[Sample]:
    """The samples that the results of a finished evaluation were computed from.

    Raises:
        InputError: the directory holds no finished evaluation.
    """
    return [row for row in _stream(folder, "all") if row.of != GAVE_UP]


def _stream(folder: Path, what: What) -> Iterator[Sample]:
    """The same one by one, with a row for each search that returned nothing."""
    path = folder / SAMPLES
    if not path.is_file() or not (folder / RESULTS).is_file():
        raise InputError(f"{folder}: holds no finished evaluation ({RESULTS}, {SAMPLES}); run `harness eval` there.")
    results = read_results(folder)
    if (wanted := results["hashes"].get("samples")) is not None and file_hash(path) != wanted:
        raise InputError(f"{path}: not the samples that {RESULTS} was computed from (damaged or changed); {AGAIN}.")
    wanted_rows, found = results["counts"]["samples"] + results["counts"].get("given_up", 0), 0
    read = {"all": _sample, "texts": _without_tokens, "verdicts": _verdict}[what]
    for number, line in itertools.islice(read_lines(path), wanted_rows):
        found += 1
        yield read(line, f"{path}:{number}")
    if found < wanted_rows:
        raise InputError(
            f"{path}: holds {found} of the {wanted_rows} samples that {RESULTS} was computed from; {AGAIN}."
        )


def _without_tokens(line: bytes, place: str) -> Sample:
    """The sample with token ids that are all `UNREAD`; nothing else of a line takes as long to read."""
    start = line.find(TOKEN_IDS) + len(TOKEN_IDS)
    end = line.find(b"]", start)
    if start < len(TOKEN_IDS) or end <= start:
        return _sample(line, place)
    sample = _sample(line[:start] + line[end:], place)
    return replace(sample, response=replace(sample.response, token_ids=_unread(line.count(b",", start, end) + 1)))


@functools.cache
def _unread(count: int) -> tuple[int, ...]:
    return (UNREAD,) * count


def _verdict(line: bytes, place: str) -> Sample:
    """The sample without its response, key and index. Most that are said of one problem are alike, and read once."""
    head = HEAD.match(line)
    behind = BEHIND.search(line, head.end()) if head else None
    if behind is not None:
        with contextlib.suppress(InputError, LookupError, TypeError):  # which has to say in which line
            return _behind(line[behind.start() + len(b"}, ") :])
    return _sample(line, place)


@functools.lru_cache(maxsize=1 << 12)
def _behind(fields: bytes) -> Sample:
    """What a line says behind the response."""
    data = parse_line(b"{" + fields, "")
    return to_row(Sample, {"key": "", "problem_id": data["problem"]["id"], "index": 0, "response": {}, **data}, "")


def stream_rollouts(folder: Path, what: What = "all") -> Iterator[Rollout]:
    """The scored rollouts of a finished evaluation, one at a time; raises `InputError` as `read_samples` does."""
    for _, rows in itertools.groupby(_stream(folder, what), lambda row: row.problem_id):
        samples = list(rows)
        scored = (
            ScoredResponse(row.response, row.answer, row.correct, row.reward, row.status)
            for row in samples
            if row.of != GAVE_UP
        )
        yield Rollout(samples[0].problem, tuple(scored))


def read_rollouts(folder: Path) -> list[Rollout]:
    """All scored rollouts of a finished evaluation; raises `InputError` as `read_samples` does."""
    return list(stream_rollouts(folder))
