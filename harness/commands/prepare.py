"""`harness prepare`: write the built-in task's data and base model to a folder."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Literal

from harness.arithmetic.code import as_code
from harness.arithmetic.problems import as_lines, problems
from harness.errors import InputError
from harness.locks import only_writer
from harness.store import write_rows


def prepare(
    output: Path,
    seed: int = 0,
    num_sft: int = 2000,
    num_train: int = 6000,
    num_probe: int = 100,
    num_test: int = 500,
    levels: tuple[int, ...] = (2, 3, 4, 5),
    solutions: Literal["lines", "code"] = "lines",
) -> None:
    """Write the arithmetic task's data (`sft.jsonl`, `train.jsonl`, `probe.jsonl`, `test.jsonl`) and base model.

    The four files share no problem. Only `sft.jsonl` holds worked solutions; the others hold questions and answers.

    Args:
        output: folder to write to; the base model (random weights) goes to its sub-folder `base`.
        seed: seed of the base model's weights and of the training problems; the SFT rows, the probe and the test
            problems are the same for every seed, so that seeds can be compared.
        num_sft: problems with a worked solution each.
        num_train: problems with answers only, from which rollouts are sampled.
        num_probe: problems on which sampling settings are compared.
        num_test: held-out problems.
        levels: numbers of operators, which take turns.
        solutions: how the worked solutions are written: as lines that each reduce the one before, or as programs in
            steps (`harness.arithmetic.code`; prompt template and protocol `arithmetic_code`).
    """
    from harness.arithmetic.model import build_model, build_tokenizer

    if min(levels, default=0) < 1:
        raise InputError(f"levels {list(levels)}: give at least one level, each 1 or more.")
    files = {"sft": (num_sft, 0), "train": (num_train, seed), "probe": (num_probe, 0), "test": (num_test, 0)}
    with only_writer(output, folder=True):
        for split, (count, split_seed) in files.items():
            form = as_code if solutions == "code" else as_lines
            rows = itertools.islice(problems(split, split_seed, levels, split == "sft", form), count)
            write_rows(output / f"{split}.jsonl", (replace(row, source="") for row in rows))
        tokenizer = build_tokenizer(code=solutions == "code")
        model = build_model(tokenizer, seed)
        tokenizer.save_pretrained(output / "base")
        model.save_pretrained(output / "base")
    print(f"{output}: {', '.join(f'{count} {split}' for split, (count, _) in files.items())} problems, base model")
