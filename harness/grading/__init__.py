"""Text in, verdict out: the one grader of the house. Importable without torch; computer algebra loads when needed."""

from harness.grading.answer_protocols import DEFAULT, PROTOCOLS, AnswerProtocol, Rule
from harness.grading.equivalence import is_equivalent
from harness.grading.extract import extract_answer
from harness.grading.grader import grade, grade_answer, grade_many, read_answer
from harness.grading.graders import GRADERS, Grader
from harness.grading.letters import chosen, option_text
from harness.grading.verdict import Verdict

__all__ = [
    "DEFAULT",
    "GRADERS",
    "PROTOCOLS",
    "AnswerProtocol",
    "Grader",
    "Rule",
    "Verdict",
    "chosen",
    "extract_answer",
    "grade",
    "grade_answer",
    "grade_many",
    "is_equivalent",
    "option_text",
    "read_answer",
]
