"""From a problem to the exact prompt the model sees, and from a response's text to its steps."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import InputError
from harness.grading.answer_protocols import AnswerProtocol
from harness.prompts.chats import check_bos, render_chat
from harness.prompts.math_steps import MathSteps
from harness.types import Problem


@dataclass(frozen=True)
class StepFormat:
    """Where one step of a response ends."""

    boundary: str = r"\n"
    """Regular expression; a step ends right after each match. "" keeps a response in one step."""

    def split(self, text: str) -> tuple[str, ...]:
        """Cut a text into steps; joined, they are the text again. An empty text has no steps."""
        if not self.boundary:
            return (text,) if text else ()
        ends = [match.end() for match in re.finditer(self.boundary, text)]
        cuts = [0, *ends, len(text)]
        return tuple(text[a:b] for a, b in itertools.pairwise(cuts) if b > a)


@dataclass(frozen=True)
class PromptTemplate:
    """How a problem becomes a prompt, and where its responses and steps end."""

    name: str
    user: str = "{question}\n"
    """The prompt, or in a chat the user's turn; `{question}`, `{choices}` and, for hints, the gold `{answer}` are
    filled in; other braces stay."""
    system: str = ""
    """System turn of a chat template; of a plain prompt the text before everything else."""
    chat: bool = False
    """Render with the tokenizer's chat template."""
    few_shot: tuple[tuple[str, str], ...] = ()
    """(question, response) examples that come before the problem."""
    shot_separator: str = "\n\n"
    stop: tuple[str, ...] = ()
    """Strings that end a response, besides the tokenizer's EOS."""
    steps: StepFormat | MathSteps = StepFormat()
    answer_protocol: str | AnswerProtocol = "default"
    """How the grader finds the final answer: the name of one of `harness.grading.PROTOCOLS`, or its rules."""
    chat_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Variables of the tokenizer's chat template, such as `enable_thinking: false` of Qwen 3."""

    @property
    def prompting(self) -> tuple[str, ...]:
        """The fields that decide what a model is asked and where its response ends."""
        given = ("chat_options",) if self.chat_options else ()
        return ("user", "system", "chat", "few_shot", "shot_separator", "stop", *given)

    def identity(self) -> dict[str, Any]:
        """The content: under another name it is the same template."""
        return {name: getattr(self, name) for name in (*self.prompting, "steps", "answer_protocol")}

    def _fill(self, question: str, choices: Sequence[str], answer: str = "") -> str:
        filled = {"{choices}": "\n".join(choices), "{question}": question, "{answer}": answer}
        return re.sub("|".join(filled), lambda match: filled[match[0]], self.user)

    def render(self, problem: Problem, tokenizer: Any = None) -> str:
        """The prompt as text. A chat needs the tokenizer.

        Raises:
            InputError: `chat` is set and the tokenizer has no chat template, or one that refuses the messages.
        """
        turns = [(self._fill(question, ()), response) for question, response in self.few_shot]
        last = self._fill(problem.question, problem.choices, problem.answer)
        if not self.chat:
            head = self.system + self.shot_separator if self.system else ""
            return head + "".join(prompt + response + self.shot_separator for prompt, response in turns) + last
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for prompt, response in turns:
            messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        messages.append({"role": "user", "content": last})
        try:
            return render_chat(messages, tokenizer, self.chat_options)
        except InputError as error:
            raise InputError(f"prompt template '{self.name}' is a chat, but {error}") from error

    def encode(self, problem: Problem, tokenizer: Any) -> tuple[int, ...]:
        """The prompt as token ids, the same for every engine and for training."""
        return encode_prompt(self.render(problem, tokenizer), tokenizer, chat=self.chat)


def encode_prompt(text: str, tokenizer: Any, chat: bool = False) -> tuple[int, ...]:
    """Token ids of a prompt's text; a chat template has written its special tokens into the text already.

    Raises:
        InputError: they begin with BOS twice.
    """
    ids = tuple(tokenizer(text, add_special_tokens=not chat)["input_ids"])
    check_bos(ids, tokenizer)
    return ids


LINES = StepFormat(r"\n")
PARAGRAPHS = StepFormat(r"\n\n")
WRITTEN_LINES = StepFormat(r"(?<=\S)(?:[ \t]*\n)+")
"""Lines that are not blank; blank ones belong to the line before."""
CODE_STEPS = StepFormat(r"<end_of_step>|<end_of_code>(?:\s*<output>(?s:.*?)<end_of_output>)?")
"""The steps of `harness.search.CodeSteps`: code up to a marker, the output with the block it belongs to."""
RSTAR_TEACHER = PromptTemplate(
    "rstar_teacher",
    system="You solve mathematical problems by writing Python. A solution has three parts. <code> holds the "
    "program, in steps that each begin with a comment saying what is done and why and end with "
    "<end_of_step>; do every calculation in code, use only math, sympy, numpy and scipy, import what you "
    "use, and define every name before you use it. The last step prints the result and ends with "
    "<end_of_code>. Its output is then inserted for you between <output> and <end_of_output>. <answer> "
    "states the result in one sentence, the bare value in \\boxed{}, and ends with "
    "<end_of_answer>.\n\nTwo examples follow.",
    user="Question: {question}\n",
    few_shot=(
        (
            "A shop sells pens at 3 for $4. How many dollars do 45 pens cost?",
            "<code>\n# Pens come in groups of 3, so first count the groups.\ngroups = 45 / 3\n<end_of_step>\n"
            "# Each group costs $4.\ncost = groups * 4\n<end_of_step>\n"
            "# Now print the final answer.\nprint(cost)\n<end_of_code>\n<output>60.0<end_of_output>\n"
            "<answer>45 pens cost \\boxed{60} dollars.<end_of_answer>",
        ),
        (
            "Find the product of the real roots of $x^2 - 5x + 6 = 0$.",
            "<code>\n# Write the equation with sympy.\nfrom sympy import Eq, prod, solve, symbols\n"
            "x = symbols('x', real=True)\nequation = Eq(x**2 - 5*x + 6, 0)\n<end_of_step>\n"
            "# Solve it over the real numbers.\nroots = solve(equation, x)\n<end_of_step>\n"
            "# Now print the final answer.\nprint(prod(roots))\n<end_of_code>\n<output>6<end_of_output>\n"
            "<answer>The product of the roots is \\boxed{6}.<end_of_answer>",
        ),
    ),
    stop=("\n\nQuestion:",),
    steps=CODE_STEPS,
    answer_protocol="boxed",
)
"""Asks any capable model for solutions in the form of rStar-Math, with two examples in a fixed order."""

TEMPLATES: dict[str, PromptTemplate] = {
    template.name: template
    for template in (
        PromptTemplate("plain", steps=LINES),
        PromptTemplate("arithmetic", user="{question} ?\n", steps=LINES, answer_protocol="gsm8k"),
        # Solutions are programs in steps; searches with `CodeSteps` run them.
        PromptTemplate("arithmetic_code", user="{question} ?\n", steps=CODE_STEPS, answer_protocol="boxed"),
        PromptTemplate("gsm8k", user="Question: {question}\nAnswer:", steps=LINES, answer_protocol="gsm8k"),
        PromptTemplate(
            "bstar",
            user="# Question\n\n{question}\n\n# Solution\n\n",
            # The answer part belongs to the last step.
            steps=StepFormat(r"(?<!# Answer)\n\n(?!# Answer)"),
            answer_protocol="bstar",
        ),
        # The question lists its options, as in the tasks of `harness.evals`.
        PromptTemplate(
            "arc",
            user="Answer the question. Reason step by step, then give the letter of the answer in the form "
            "'Final answer: (A)'.\n\nQuestion: {question}\nSolution:",
            stop=("Question:", "\n\n"),
            steps=LINES,
            answer_protocol="final_answer",
        ),
        # What follows is the program, with or without a fence; unit tests judge it.
        PromptTemplate("apps", user="# Question\n\n{question}\n\n# Solution\n\n", steps=LINES),
        PromptTemplate(
            "rstar",
            user="<|user|>:\n{question}\n<|assistant|>: Let's think step by step and solve the problem with code.",
            steps=CODE_STEPS,
            answer_protocol="boxed",
        ),
        RSTAR_TEACHER,
        PromptTemplate("self_explore", steps=WRITTEN_LINES, answer_protocol="self_explore"),
        PromptTemplate("self_explore_math", steps=MathSteps(), answer_protocol="self_explore_math"),
        # The question alone, as the user's turn.
        PromptTemplate("chat", user="{question}", chat=True, steps=PARAGRAPHS),
        PromptTemplate(
            "boxed",
            user="{question}",
            system="Please reason step by step, and put your final answer within \\boxed{}.",
            chat=True,
            steps=PARAGRAPHS,
            answer_protocol="boxed",
        ),
    )
}
