"""What a step is: plain reasoning that ends at a marker, or reasoning with code whose output the policy gets to see."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.types import Execution, Response


class Steps(ABC):
    """Tells a search how its policy writes steps."""

    step_stop: tuple[str, ...]
    """Strings that end a step."""
    runs_code: ClassVar[bool] = False

    @abstractmethod
    def answered(self, response: Response) -> bool:
        """Whether the last step ends the response with an answer."""

    def ends_answer(self, response: Response) -> bool:
        """Whether the last step is an answer for which `MCTS.collapse_answers` drops its siblings."""
        return self.answered(response)

    def goes_on(self, response: Response) -> bool:
        """Whether a response whose last sample has ended, without an answer or at the token limit, is continued."""
        return False

    def program(self, steps: Sequence[str], failed: Sequence[bool]) -> tuple[str, ...]:
        """The code to run for the last of the steps, earlier code first; `failed` says which ran into errors."""
        return ()

    def output(self, step: str, execution: Execution) -> str:
        """Text to show the policy after a step has run; "" for nothing."""
        return ""


@dataclass(frozen=True)
class PlainSteps(Steps):
    """Natural language; a response is answered when the policy ends it."""

    step_stop: tuple[str, ...] = ("\n\n",)

    def answered(self, response: Response) -> bool:
        return response.finish_reason == "stop"


@dataclass(frozen=True)
class CodeSteps(Steps):
    """Code-augmented chain of thought (rStar-Math, arXiv:2501.04519, section 3.2).

    A response is `<code>`, steps of code with comments that each end in `<end_of_step>`, the last in `<end_of_code>`,
    the output that the harness writes, and `<answer>` ... `<end_of_answer>`; there may be several blocks of code.
    """

    code: str = "<code>"
    end_of_step: str = "<end_of_step>"
    end_of_code: str = "<end_of_code>"
    output_begin: str = "<output>"
    output_end: str = "<end_of_output>"
    answer: str = "<answer>"
    end_of_answer: str = "<end_of_answer>"
    stop_at_steps: bool = True
    """False asks for a whole block of code at a time, as the official greedy evaluation does."""
    shared_state: bool = False
    """Let a block of code see the variables of earlier blocks; the official code starts each block afresh."""
    run_failed_steps_again: bool = False
    """Keep a failed step's code in the programs of later steps, which then fail at the same place, as the official code
    does; otherwise it is left out, so that the policy can correct it."""
    answer_by_box: bool = False
    r"""Take any step with `\boxed` for the answer, even in a comment, and run every other as code and go on behind it,
    even if it ended with `<end_of_answer>`, with EOS or at the token limit, as the official code does."""

    runs_code: ClassVar[bool] = True

    @property
    def step_stop(self) -> tuple[str, ...]:  # type: ignore[override]
        ends = (self.end_of_code, self.end_of_answer)
        return (self.end_of_step, *ends) if self.stop_at_steps else ends

    def answered(self, response: Response) -> bool:
        last = response.steps[-1]
        if self.answer_by_box:
            return "boxed" in last
        ended = last.rstrip().endswith(self.end_of_answer) or response.finish_reason == "stop"
        return self.answer in last and ended

    def ends_answer(self, response: Response) -> bool:
        if self.answer_by_box:
            return response.steps[-1].endswith(self.end_of_answer)
        return self.answered(response)

    def goes_on(self, response: Response) -> bool:
        return self.answer_by_box

    def program(self, steps: Sequence[str], failed: Sequence[bool]) -> tuple[str, ...]:
        block: list[str] = []
        for index in range(len(steps) - 1, -1, -1):
            step, is_last = steps[index], index == len(steps) - 1
            if not is_last and not self.shared_state and (self.end_of_code in step or self.output_end in step):
                break
            if is_last or self.run_failed_steps_again or not failed[index]:
                block.append(self._code(step))
        return tuple(reversed(block))

    def _code(self, step: str) -> str:
        step = step.partition(self.output_begin)[0]
        if self.code in step:
            step = step.rpartition(self.code)[2]
        markers = (self.end_of_step, self.end_of_code, self.answer, self.end_of_answer)
        return re.sub("|".join(map(re.escape, markers)), "\n", step).strip("\n") + "\n"

    def output(self, step: str, execution: Execution) -> str:
        if not step.rstrip().endswith(self.end_of_code):
            return ""
        shown = execution.error if execution.failed else execution.output.rstrip("\n")
        return f"\n{self.output_begin}{shown}{self.output_end}"
