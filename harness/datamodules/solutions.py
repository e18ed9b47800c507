"""Are the worked solutions of a training file in the form by which its template finds answers?"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence

from harness.errors import InputError
from harness.grading import grade_many
from harness.grading.answer_protocols import find_answer_protocol
from harness.prompts.templates import PromptTemplate
from harness.sources import Source, read_source

NUM_CHECKED = 100
"""Rows looked at in each file."""


def check_solutions(sources: Sequence[Source], template: PromptTemplate) -> None:
    """Grade the first solutions of each source against their own answers; rows without either are passed over.

    A policy that learns solutions in another form than its template reads will answer no problem, and nothing else
    would say so. Warns where fewer than half of the solutions yield their answer.

    Raises:
        InputError: none of them does.
    """
    protocol = find_answer_protocol(template.answer_protocol)
    for source in sources:
        rows = [
            (place, str(row["solution"]), str(row["answer"]))
            for place, row in itertools.islice(read_source(source), NUM_CHECKED)
            if row.get("solution") and str(row.get("answer") or "") and "prompt" not in row and "messages" not in row
        ]
        if not rows:
            continue
        places, solutions, answers = zip(*rows, strict=True)
        verdicts = grade_many(solutions, answers, protocol=protocol, num_workers=1)
        right = sum(verdict.correct for verdict in verdicts)
        if not right:
            raise InputError(
                f"{places[0]}: none of the {len(rows)} solutions looked at yields its answer (here "
                f"{answers[0]!r:.80}) under the template '{template.name}', so that no response of a policy trained on "
                "them would be found right; write the file in the form of the template (some recipes have a "
                "prepare.py), name another template, or set check_solutions to false."
            )
        if right < len(rows) / 2:
            warnings.warn(
                f"{source}: only {right} of the {len(rows)} solutions looked at yield their answer under the template "
                f"'{template.name}'.",
                stacklevel=2,
            )
