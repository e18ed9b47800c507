"""What files of samples cost at two sizes a factor of ten apart: seconds of the processor, and growth of peak memory.

Usage: python benchmarks/store.py [ITEM ...] [--samples 10000 100000] [--per_problem 50] [--tokens 300]

Samples are as a model with a large vocabulary would draw them: 300 tokens, ten steps with an equation each, one in two
right. The engine only hands them out, so what is measured is all else. Each item is a process of its own, whose memory
counts from when its data are there; those of one size work in one folder, so that `resume`, `compare` and `report`
read what `evaluate` has written, and `replay` what `log` has.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")

from resident import begin_peak, memory

import harness.report.page  # noqa: F401 - imported before memory is measured
from harness.commands.replay import replay as replay_command
from harness.commands.report import report as report_command
from harness.datamodules import SFTDataModule
from harness.evals.compare import compare_folders
from harness.evals.evaluation import Evaluation
from harness.evals.rows import TaskData
from harness.evals.run import made_by_of, run
from harness.evals.samples import SampleStore
from harness.evals.task import Task
from harness.metrics.monitors import monitors
from harness.metrics.summary import MetricConfig
from harness.objectives.objective import Objective
from harness.prompts.templates import PromptTemplate
from harness.protocols import Engine
from harness.provenance import Provenance
from harness.rewards import Outcome
from harness.rollouts.dispatcher import Dispatcher
from harness.rollouts.iteration import Iteration, IterationFiles
from harness.rollouts.log import RolloutLog
from harness.search.tree import SearchTree, TreeNode
from harness.selection import DistinctEquations, DistinctTexts, TopK
from harness.selection.balance import FixedSampling
from harness.selection.policy_rows import PolicyRows
from harness.selection.tree_rows import sft_examples
from harness.store import read_rows, write_json, write_rows
from harness.types import (
    Completion,
    GenerationRequest,
    GenerationResult,
    Problem,
    Response,
    Rollout,
    RolloutConfig,
    SamplingConfig,
    ScoredResponse,
    SFTExample,
)

VOCABULARY = 152_000
TEMPLATE = PromptTemplate("benchmark", user="{question} = ?\n", answer_protocol="gsm8k")


def tokenizer() -> Any:
    """One token per character."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {chr(i): number for number, i in enumerate((10, *range(32, 127)), 2)}
    inner = Tokenizer(models.WordLevel({"<eos>": 0, "<unk>": 1} | letters, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", unk_token="<unk>", pad_token="<eos>")


def completion(problem: int, index: int, tokens: int) -> Completion:
    """A response that nobody else gives: steps of about a tenth of its tokens, four characters a token."""
    rng = random.Random(problem * 1009 + index)
    step = tokens * 4 // 10
    lines = []
    for _ in range(9):
        a, b = rng.randrange(1000), rng.randrange(1000)
        line = f"We add {a} + {b} = {a + b} to what there is"
        lines.append(line + " and" * ((step - len(line)) // 4) + "\n")
    answer = problem + 1 if rng.random() < 0.5 else rng.randrange(100)
    ids = tuple(rng.choices(range(VOCABULARY), k=tokens))
    return Completion(f"{''.join(lines)}#### {answer}", ids, -0.1 * tokens, "stop", (-0.1,) * tokens)


class Script:
    """As much of an engine as an evaluation asks for; it hands out responses by problem and index."""

    name, version, dtype, max_context = "script 1", "weights", "float32", 1 << 20

    def __init__(self, tokens: int) -> None:
        self.tokens, self.queue = tokens, list[GenerationRequest]()

    def submit(self, request: GenerationRequest) -> None:
        self.queue.append(request)

    def poll(self) -> list[GenerationResult]:
        found, self.queue = self.queue[:16], self.queue[16:]
        return [
            GenerationResult(
                each.key,
                tuple(
                    completion(int(each.key.rpartition("/")[2]), each.sampling.first + i, self.tokens)
                    for i in range(each.sampling.n)
                ),
            )
            for each in found
        ]

    @property
    def num_pending(self) -> int:
        return len(self.queue)


def problems(count: int) -> list[Problem]:
    return [Problem(str(i), f"{i} + 1", str(i + 1)) for i in range(count)]


def rollouts(count: int, n: int, tokens: int, number: int = 0) -> Iterator[Rollout]:
    """The scored rollouts of problems from a number on, without log-probabilities of their tokens."""
    for problem in problems(number + count)[number:]:
        drawn = [completion(int(problem.id), index, tokens) for index in range(n)]
        yield Rollout(
            problem,
            tuple(
                ScoredResponse(
                    Response(TEMPLATE.steps.split(each.text), each.finish_reason, each.token_ids, each.logp),
                    each.text.rpartition(" ")[2],
                    right := each.text.endswith(f"#### {problem.answer}"),
                    float(right),
                )
                for each in drawn
            ),
            SamplingConfig(n=n),
            1,
            "weights",
        )


class Size:
    """A size, its folder, and what its items share."""

    def __init__(self, folder: Path, samples: int, n: int, tokens: int) -> None:
        self.folder, self.n, self.tokens = folder, n, tokens
        self.count = samples // n
        """Problems."""
        self.files = IterationFiles(folder / "run" / "rollouts", 1)

    def evaluation(self) -> tuple[Evaluation, Dispatcher]:
        task, data = Task("benchmark"), TaskData(tuple(problems(self.count)), "here", "0")
        sampling = SamplingConfig(n=self.n, max_tokens=self.tokens)
        dispatcher = Dispatcher(cast(Engine, Script(self.tokens)), tokenizer(), TEMPLATE)
        return Evaluation(task, data, MetricConfig((1, self.n)), sampling), dispatcher

    def draw(self, wanted: Any, window: int) -> Iterator[Rollout]:
        for problem in wanted:
            yield from rollouts(1, self.n, self.tokens, int(problem.id))

    def log(self) -> None:
        with RolloutLog(self.files.rollouts, Provenance({}, {}), list) as log:
            log.block(problems(self.count), SamplingConfig(n=self.n), self.draw)

    def iterate(self, name: str, selector: Any) -> Iterator[None]:
        sampling = SamplingConfig(n=self.n, max_tokens=self.tokens)
        plan = Iteration(problems(self.count), FixedSampling(sampling, 0.5), selector)
        _, dispatcher = self.evaluation()
        yield
        plan.run(1, self.folder / name, dispatcher)

    def select(self, selector: Any) -> Iterator[None]:
        rows = list(rollouts(self.count, self.n, self.tokens))
        yield
        selector(rows, RolloutConfig(SamplingConfig(n=self.n), 0.5), lambda problem: problem.id)


# Each item prepares what it needs, yields, and does what is measured.


def evaluate(size: Size) -> Iterator[None]:
    """An evaluation from its first sample to its results."""
    evaluation, dispatcher = size.evaluation()
    yield
    run(evaluation, dispatcher, size.folder / "eval", {})


def resume(size: Size) -> Iterator[None]:
    """Its directory opened again, up to where it is known what is missing."""
    evaluation, dispatcher = size.evaluation()
    made_by = made_by_of(evaluation, dispatcher)
    yield
    with SampleStore(size.folder / "eval", dispatcher, evaluation.sampling, None, made_by) as store:
        assert all(map(store.complete, evaluation.data.problems))


def again(size: Size) -> Iterator[None]:
    """The whole evaluation again: nothing is drawn, everything graded and written anew."""
    yield from evaluate(size)


def compare(size: Size) -> Iterator[None]:
    """Two evaluations compared, of which both are the same here."""
    yield
    compare_folders(size.folder / "eval", size.folder / "eval")


def report(size: Size) -> Iterator[None]:
    """The page of an evaluation, with all of its samples."""
    yield
    report_command([size.folder / "eval"], size.folder / "page.html")


def log(size: Size) -> Iterator[None]:
    """An iteration's log, drawn and written in one block."""
    yield
    size.log()


def log_again(size: Size) -> Iterator[None]:
    """The same log read back."""
    yield
    size.log()


def replay(size: Size) -> Iterator[None]:
    """`harness replay` of a run of one iteration."""
    write_rows(size.files.train, [SFTExample("0", "", problem_id="0")])
    write_json(
        size.files.manifest,
        {"iteration": 1, "config": RolloutConfig(SamplingConfig(n=size.n), 0.5), "decision": {}},
    )
    yield
    replay_command(size.folder / "run")


def iteration(size: Size) -> Iterator[None]:
    """An iteration of self-improvement from its first sample to its training rows."""
    yield from size.iterate("iteration", TopK())


def policy(size: Size) -> Iterator[None]:
    """The same of policy gradients, where all samples become rows, with their tokens and log-probabilities."""
    yield from size.iterate("policy", PolicyRows(Objective()))


def monitor(size: Size) -> Iterator[None]:
    """The monitors of an iteration."""
    rows = list(rollouts(size.count, size.n, size.tokens))
    yield
    monitors(rows, Outcome(), 0.5)


def top_k(size: Size) -> Iterator[None]:
    yield from size.select(TopK())


def equations(size: Size) -> Iterator[None]:
    yield from size.select(DistinctEquations())


def texts(size: Size) -> Iterator[None]:
    yield from size.select(DistinctTexts())


def trees(size: Size) -> Iterator[None]:
    """Search trees written, read back and made rows of; a tree has as many nodes as ten samples have steps."""
    per_tree = 100
    rng = random.Random(0)

    def tree(problem: Problem) -> SearchTree:
        nodes = [TreeNode()]
        for i in range(1, per_tree + 1):
            end = i % 10 == 0
            step = f"We add {i} + {rng.randrange(1000)}" + " and so on" * 10 + ("\n#### 1" if end else "\n")
            nodes.append(
                TreeNode(
                    0 if i % 10 == 1 else i - 1, step, token_ids=tuple(rng.choices(range(VOCABULARY), k=30)),
                    state="answered" if end else "open", finish_reason="stop" if end else "step",
                    correct=i % 20 == 0, answer="1" if end else None,
                )
            )  # fmt: skip
        return SearchTree(problem, tuple(nodes))

    found = [tree(problem) for problem in problems(size.count * size.n // 10)]
    yield
    write_rows(size.folder / "trees.jsonl", found)
    for each in read_rows(size.folder / "trees.jsonl", SearchTree):
        sft_examples([each], lambda problem: problem.id)


def tokenise(size: Size) -> Iterator[None]:
    """A file of rows as token ids, the first time: one row per sample."""
    path = size.folder / "rows.jsonl"
    if not path.exists():
        write_rows(
            path,
            (
                SFTExample(f"{i} + 1 = ?", completion(i, 0, size.tokens).text[: size.tokens])
                for i in range(size.count * size.n)
            ),
        )
    data = SFTDataModule([str(path)], tokenizer=tokenizer(), max_length=4096)
    yield
    data.setup("fit")


def tokenise_again(size: Size) -> Iterator[None]:
    """The same file at the next start."""
    yield from tokenise(size)


Item = Callable[[Size], Iterator[None]]
ITEMS: dict[str, Item] = {
    item.__name__: item
    for item in (
        evaluate, resume, again, compare, report, log, log_again, replay, iteration, policy, monitor, top_k, equations,
        texts, trees, tokenise, tokenise_again,
    )
}  # fmt: skip


def measured(item: Item, size: Size) -> tuple[float, float]:
    """Seconds of the processor, and MiB by which the peak of memory grew."""
    steps = item(size)
    next(steps)
    begin_peak()
    before, cpu = memory("VmRSS"), time.process_time()
    next(steps, None)
    return time.process_time() - cpu, memory("VmHWM") - before


def main() -> None:
    names = list(ITEMS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"of {', '.join(names)}; default is all")
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--per_problem", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="work there and leave the files; default is a temporary folder")
    arguments = parser.parse_args()
    if unknown := set(arguments.items) - set(names):
        parser.error(f"unknown item '{min(unknown)}'; known: {', '.join(names)}")
    print(f"{'item':14} {'samples':>9} {'CPU s':>8} {'us/sample':>10} {'peak MiB':>9} {'B/sample':>9}")
    fork = multiprocessing.get_context("fork")  # with all imports done
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XDG_CACHE_HOME"] = temporary
        for name in arguments.items or names:
            for samples in arguments.samples:
                folder = (arguments.folder or Path(temporary)) / str(samples)
                size = Size(folder, samples, arguments.per_problem, arguments.tokens)
                with ProcessPoolExecutor(1, fork) as pool:
                    cpu, peak = pool.submit(measured, ITEMS[name], size).result()
                row = f"{cpu:8.2f} {cpu / samples * 1e6:10.1f} {peak:9.0f} {peak / samples * 2**20:9.0f}"
                print(f"{name:14} {samples:9} {row}", flush=True)


if __name__ == "__main__":
    main()
