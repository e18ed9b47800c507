"""Problems on which a policy is compared or measured must not be among those it is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.errors import InputError
from harness.problems import normalized_question, shared_questions
from harness.rollouts.iteration import Iteration
from harness.types import Problem, SFTExample


def check_held_out(
    plan: Iteration, measured: Sequence[Problem], replay: Sequence[SFTExample], render: Callable[[Problem], str]
) -> None:
    """Compare questions without blanks and case.

    Args:
        plan: its training problems; its probe problems are looked for among the replayed rows.
        measured: evaluation problems.
        replay: rows that are trained on beside the selected ones.
        render: the prompt of a problem, as it would stand in a replayed row.

    Raises:
        InputError: an evaluation problem is a training problem, or one of either kind stands in a replayed row.
    """
    if shared := shared_questions(measured, plan.problems):
        raise InputError(
            f"{len(shared)} evaluation problems are also training problems (such as '{shared[0]}'); "
            "remove them from one of the two files."
        )
    replayed = {normalized_question(row.prompt) for row in replay}
    for kind, problems in (("probe", plan.probe_problems), ("evaluation", measured)):
        known = [problem.id for problem in problems if normalized_question(render(problem)) in replayed]
        if known:
            raise InputError(
                f"{len(known)} {kind} problems are also replayed in training (such as '{known[0]}'); "
                "remove them from their file or from replay_files."
            )
