"""Find a prompt template by name, in a YAML file of the user's, or as a mapping in a configuration."""

from __future__ import annotations

import difflib
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.grading.answer_protocols import find_answer_protocol
from harness.problems import read_problems
from harness.prompts.evaluation import EVAL_TEMPLATES
from harness.prompts.math_steps import MathSteps
from harness.prompts.templates import LINES, PARAGRAPHS, TEMPLATES, PromptTemplate, StepFormat
from harness.store import from_mapping, read_yaml

STEPS: dict[str, StepFormat | MathSteps] = {
    "lines": LINES,
    "paragraphs": PARAGRAPHS,
    "none": StepFormat(""),
    "math": MathSteps(),
}
"""Names for where steps end; anything else is a regular expression after each match of which a step ends."""


@dataclass(frozen=True)
class Shots:
    """Examples of a prompt that are drawn from a file of problems with solutions."""

    file: str
    k: int = 4
    """How many."""
    seed: int | None = None
    """Of the draw; None takes the first."""
    response: str = "{solution}"
    """How an example is answered; `{solution}` and `{answer}` are filled in."""

    def load(self, place: str) -> tuple[tuple[str, str], ...]:
        """The examples.

        Raises:
            InputError: the file has fewer rows, or a row lacks what a response is made of.
        """
        problems = read_problems(self.file, need_answer="{answer}" in self.response)
        if not 1 <= self.k <= len(problems):
            raise InputError(f"{place}: few_shot: k is {self.k}, and {self.file} has {len(problems)} rows.")
        if self.seed is not None:
            problems = random.Random(self.seed).sample(problems, self.k)
        found = []
        for problem in problems[: self.k]:
            if "{solution}" in self.response and not problem.solution:
                raise InputError(
                    f"{place}: few_shot: problem '{problem.id}' of {self.file} has no column 'solution'; give one, or "
                    "a `response` without {solution}."
                )
            filled = self.response.replace("{answer}", problem.answer).replace("{solution}", problem.solution)
            found.append((problem.question, filled))
        return tuple(found)


def known_templates() -> dict[str, PromptTemplate]:
    """All templates that come with the project, by name."""
    return {**TEMPLATES, **EVAL_TEMPLATES}


def find_template(given: str | Mapping[str, Any] | PromptTemplate) -> PromptTemplate:
    """The template that a configuration or the command line asks for.

    Args:
        given: a name; the path of a YAML file with the fields of `PromptTemplate`; or those fields as a mapping. With
            `base: NAME` the fields not given are those of that template. `steps` is one of `STEPS` or a regular
            expression, `answer_protocol` a name or a mapping, `few_shot` a list of [question, response] or a mapping
            with the fields of `Shots`, which takes them from a file.

    Raises:
        InputError: an unknown name (the message gives the nearest one), file or field.
    """
    if isinstance(given, PromptTemplate):
        return given
    if isinstance(given, Mapping):
        return _from_fields(given, "the prompt template", "own")
    if given.endswith((".yaml", ".yml")):
        return _from_fields(read_yaml(given), given, Path(given).stem)
    known = known_templates()
    if given not in known:
        near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}, or a YAML file."
        raise InputError(f"unknown prompt template '{given}'; {hint}")
    return known[given]


def _from_fields(fields: Mapping[str, Any], place: str, name: str) -> PromptTemplate:
    base = find_template(fields["base"]) if "base" in fields else PromptTemplate(name)
    given = {"name": name, **{key: value for key, value in fields.items() if key not in ("base", "steps")}}
    if isinstance(given.get("few_shot"), Mapping):
        given["few_shot"] = from_mapping(Shots, given["few_shot"], f"{place}: few_shot").load(place)
    template = from_mapping(PromptTemplate, given, place, also=("base", "steps"))
    if isinstance(template.answer_protocol, Mapping):
        template = replace(template, answer_protocol=find_answer_protocol(template.answer_protocol, place))
    elif isinstance(template.answer_protocol, str):
        find_answer_protocol(template.answer_protocol, place)
    changed: dict[str, Any] = {key: getattr(template, key) for key in given}
    if "steps" in fields:
        steps = fields["steps"]
        if not isinstance(steps, str):
            raise InputError(f"{place}: steps is {steps!r}; give {', '.join(STEPS)}, or a regular expression.")
        changed["steps"] = STEPS.get(steps) or StepFormat(steps)
    return replace(base, **changed)
