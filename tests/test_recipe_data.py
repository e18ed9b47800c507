"""The scripts beside recipes that write their training files."""

import importlib.util

import pytest

from harness.grading import PROTOCOLS, grade_many
from harness.problems import normalized_question, read_problems
from harness.prompts.find import find_template
from harness.types import Problem
from tests.paths import DATA_DIR, ROOT

MATH = ROOT / "configs/recipes/bstar/math_mistral7b/prepare.py"


@pytest.fixture(scope="module")
def prepare():
    spec = importlib.util.spec_from_file_location("prepare", MATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_steps_end_with_sentences_but_not_within_formulas_or_pictures(prepare):
    solution = (
        "Let $f(x)=1. X$ for all $x.$ Then $y$ holds\nfor $x$.  We see\n\\[a.\n\nB = 2.\\]\n"
        "So it is 3.5 cm. $z$ follows.\n\n[asy]\ndraw(a. B);\n\ndot(c);\n[/asy]\nNote this! Done."
    )
    assert prepare.steps(solution) == [
        "Let $f(x)=1. X$ for all $x.$",
        "Then $y$ holds\nfor $x$.",
        "We see\n\\[a.\nB = 2.\\]",
        "So it is 3.5 cm.",
        "$z$ follows.",
        "[asy]\ndraw(a. B);\ndot(c);\n[/asy]\nNote this!",
        "Done.",
    ]
    written = prepare.with_steps(Problem("a", "q", "3.5", solution)).solution
    assert len(find_template("bstar").steps.split(written)) == 7, "the answer belongs to the last step"


@pytest.mark.parametrize("apart", [False, True])
def test_all_of_maths_solutions_yield_their_answers_and_its_parts_add_up(prepare, tmp_path, monkeypatch, apart):
    sources = [DATA_DIR / f"{name}.jsonl.gz" for name in ("math_train", "math", "math500")]
    if not all(path.is_file() for path in sources):
        pytest.skip(f"MATH is missing in {DATA_DIR}")
    options = ["--probe_apart"] if apart else []
    monkeypatch.setattr("sys.argv", ["prepare.py", *map(str, sources), "--output", str(tmp_path), *options])
    prepare.main()
    names = ("bstar_math_train", "bstar_math_probe", "bstar_math_validation", "bstar_math500")
    train, probe, validation, evaluated = (read_problems(tmp_path / f"{name}.jsonl") for name in names)
    # Of 12,500 problems two have no answer and four questions stand there twice.
    assert [len(part) for part in (train, probe, validation, evaluated)] == [11496 - 600 * apart, 600, 498, 500]
    questions = [{normalized_question(p.question) for p in part} for part in (train, probe, validation, evaluated)]
    assert len(questions[0] & questions[1]) == (0 if apart else 600)
    assert not questions[0] & questions[2]
    assert not questions[3] & (questions[0] | questions[2])
    if not apart:
        solutions, answers = [p.solution for p in train], [p.answer for p in train]
        verdicts = grade_many(solutions, answers, protocol=PROTOCOLS["bstar"], num_workers=1)
        assert all(verdict.correct for verdict in verdicts)
