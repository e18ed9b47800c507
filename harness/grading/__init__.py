"""Text in, verdict out: the one grader of the house. Importable without torch; computer algebra loads when needed."""

from harness.grading.equivalence import is_equivalent
from harness.grading.extract import DEFAULT, PROTOCOLS, AnswerProtocol, Rule, extract_answer
from harness.grading.grader import grade, grade_many
from harness.grading.verdict import Verdict

__all__ = [
    "DEFAULT",
    "PROTOCOLS",
    "AnswerProtocol",
    "Rule",
    "Verdict",
    "extract_answer",
    "grade",
    "grade_many",
    "is_equivalent",
]
