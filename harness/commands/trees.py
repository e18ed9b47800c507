"""`harness trees`: search trees for a file of problems, and training rows from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.engines.config import EngineConfig
from harness.protocols import Reward
from harness.sandbox import Sandbox
from harness.search import MCTS
from harness.search.tree import TreeSearch
from harness.selection.tree_rows import StepPairs
from harness.types import Problem, SamplingConfig


def trees(
    model: str,
    problems: list[str | dict[str, Any]],
    output: Path,
    search: TreeSearch | None = None,
    sampling: SamplingConfig = SamplingConfig(),
    num_trees: int = 1,
    hard_trees: tuple[int, ...] = (),
    template: str | dict[str, Any] = "plain",
    reward: Reward | None = None,
    sandbox: Sandbox | None = None,
    sft_rows: Path | None = None,
    traces_per_problem: int = 2,
    row_template: str = "",
    pair_rows: Path | None = None,
    step_pairs: StepPairs = StepPairs(),  # noqa: B008 - frozen
    answer_pairs_per_side: int = 2,
    answer_pair_rows: Path | None = None,
    value_rows: Path | None = None,
    engine: EngineConfig = EngineConfig(),
    grader: str = "strict",
    limit: int | None = None,
) -> int:
    """Grow search trees over problems and write traces and preference pairs from them; a killed run continues.

    Args:
        model: checkpoint directory or hub id of the policy.
        problems: files of problems with answers, as for `harness rollout`.
        output: JSONL file of the trees, one a line; those it holds already are kept.
        search: the tree search, any class with a method `grow` (`harness list tree_searches`); without a class, fields
            of `MCTS`.
        sampling: how to sample; `max_tokens` bounds one step.
        num_trees: independent trees for each problem.
        hard_trees: so many more for each problem without a right answer so far, once for each number.
        template: name of the prompt template.
        reward: of partial and finished responses; default is the outcome.
        sandbox: runs the programs of steps with code.
        sft_rows: file to write the best right traces to.
        traces_per_problem: traces written for each problem.
        row_template: prompt template of the rows, where they train another model than the one that searched, such as
            one that needs no examples; default is `template`.
        pair_rows: file to write step pairs and final-answer pairs to.
        step_pairs: which sibling steps make a pair.
        answer_pairs_per_side: right and wrong responses of each problem that make final-answer pairs; 0 makes none.
        answer_pair_rows: file to write the final-answer pairs to alone, for a reward of whole responses (ORM).
        value_rows: file to write responses with the Q value of each step to, for a reward that predicts it (PQM).
        engine: which engine samples, and its memory.
        grader: name of the grader.
        limit: only the first so many problems.
    """
    from harness.engines import open_engine
    from harness.models.checkpoints import load_tokenizer
    from harness.problems import read_all_problems
    from harness.progress import track
    from harness.prompts.find import find_template
    from harness.rewards.outcome import Outcome
    from harness.rollouts.dispatcher import Dispatcher
    from harness.rollouts.trees import by_problem, collect_trees, coverage
    from harness.selection.tree_rows import answer_pairs, sft_examples, value_examples
    from harness.selection.tree_rows import step_pairs as step_pairs_of
    from harness.store import write_rows

    row_prompts = find_template(row_template or template)
    wanted = read_all_problems(problems)[:limit]
    opened = open_engine(model, engine)
    try:
        dispatcher = Dispatcher(
            opened, load_tokenizer(model), find_template(template), reward or Outcome(), sandbox, grader
        )
        with track(len(wanted) * num_trees, "trees") as progress:
            grown = collect_trees(
                output,
                wanted,
                dispatcher,
                search or MCTS(),
                sampling,
                num_trees=num_trees,
                hard_trees=hard_trees,
                grader=grader,
                progress=progress.advance,
            )
    finally:
        opened.close()
    for level, (solved, total) in coverage(grown).items():
        print(
            f"coverage: level {level or '-':10} {solved} of {total} problems have a right answer ({solved / total:.1%})"
        )
    print(f"{dispatcher.num_tokens} tokens, {dispatcher.mean_pending:.1f} requests pending while the engine worked")

    def render(problem: Problem) -> str:
        return row_prompts.render(problem, dispatcher.tokenizer)

    groups = by_problem(grown)
    if sft_rows is not None:
        rows = [row for group in groups for row in sft_examples(group, render, traces_per_problem)]
        write_rows(sft_rows, rows)
        print(f"{sft_rows}: {len(rows)} rows")
    whole = [pair for group in groups for pair in answer_pairs(group, render, answer_pairs_per_side)]
    if pair_rows is not None:
        pairs = [pair for group in groups for pair in step_pairs_of(group, render, step_pairs)]
        write_rows(pair_rows, [*pairs, *whole])
        print(f"{pair_rows}: {len(pairs)} step pairs, {len(whole)} final-answer pairs")
    if answer_pair_rows is not None:
        write_rows(answer_pair_rows, whole)
        print(f"{answer_pair_rows}: {len(whole)} final-answer pairs")
    if value_rows is not None:
        examples = [row for group in groups for row in value_examples(group, render)]
        write_rows(value_rows, examples)
        print(f"{value_rows}: {len(examples)} responses with step values")
    return 0
