"""Solutions of the built-in task as programs, written step by step in the form of rStar-Math (arXiv:2501.04519).

    6 * 5 - 12 + 24 + 6 ?                        the problem
    <code>
    a = 6 * 5
    # a - 12 + 24 + 6<end_of_step>               a step computes one pair and says what is left
    b = 24 + 6
    # a - 12 + b<end_of_step>
    c = a - 12
    # c + b<end_of_step>
    d = c + b
    print(d)<end_of_code>
    <output>48<end_of_output>                    written by whoever runs the program
    <answer>\\boxed{48}<end_of_answer>

Python computes, so what a policy has to learn is which pair may come first and what is left; a wrong step is a program
that runs without an error and prints something else.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from harness.arithmetic.problems import Expression

CODE_WORDS = (
    *string.ascii_lowercase[:12],
    " = ",
    "# ",
    "print(",
    ")",
    "-",
    "<code>",
    "<end_of_step>",
    "<end_of_code>",
    "<output>",
    "<end_of_output>",
    "<answer>",
    "\\boxed{",
    "}",
    "<end_of_answer>",
)
"""Words of such programs besides numbers, signs and line ends; a "-" without spaces begins a negative output."""


def as_code(expression: Expression, path: Sequence[tuple[int, Expression]]) -> str:
    """The solution that takes this path of reductions, with the output of its program.

    Raises:
        ValueError: the path has no step, or more steps than there are names.
    """
    words, steps = [str(word) for word in expression], []
    for name, (place, _) in zip(string.ascii_lowercase[: len(path)], path, strict=True):
        line = f"{name} = {' '.join(words[place - 1 : place + 2])}"
        words[place - 1 : place + 2] = [name]
        steps.append(f"{line}\n# {' '.join(words)}" if len(words) > 1 else f"{line}\nprint({name})")
    answer = path[-1][1][0]
    return (
        "<code>\n" + "<end_of_step>\n".join(steps) + f"<end_of_code>\n<output>{answer}<end_of_output>\n"
        f"<answer>\\boxed{{{answer}}}<end_of_answer>"
    )
