import ast
import random
import re

import pytest
from rapidfuzz.distance import Levenshtein

from harness.selection.distinct import AnswerLine, DistinctEquations, DistinctTexts, holds, is_farther
from harness.store import read_jsonl
from harness.types import Problem, Response, Rollout, RolloutConfig, ScoredResponse
from tests.paths import DATA_DIR

CORRECT = RolloutConfig(reward_threshold=0.5)


def rollout(*responses: tuple[str, bool] | tuple[str, bool, str], answer: str = "6") -> Rollout:
    scored = []
    for text, right, *reason in responses:
        response = Response(tuple(text.splitlines(keepends=True)), *(reason or ["stop"]))
        scored.append(ScoredResponse(response, answer, right, float(right)))
    return Rollout(Problem("p", "Q?", answer), tuple(scored))


def select(selector, *rollouts):
    rows, counts = selector(rollouts, CORRECT, lambda problem: problem.question + "\n")
    assert {row.prompt for row in rows} <= {"Q?\n"}
    return [row.response for row in rows], counts


def test_one_response_is_kept_for_each_list_of_equations():
    first, second, other = "x <<1+1=2>>", "longer x << 1 + 1=2>>", "x <<2*1=2>>"
    texts, counts = select(DistinctEquations(), rollout((first, True), (second, True), (other, True)))
    # When the second comes there is no other list yet, so neither is farther and the first stays.
    assert texts == [first, other]
    assert counts["num_same_equations"] == 1


@pytest.mark.parametrize(("tail", "kept"), [("cc", "a"), ("ccccc", "ccccc")])
def test_the_representative_is_farthest_from_those_of_the_other_lists(tail, kept):
    # Beside the equations, which differ in one letter, "a" is 4 edits from "bbbb", "cc" as many, "ccccc" 5.
    one, other, same = "<<1+1=2>>a", "<<1*2=2>>bbbb", f"<<1+1=2>>{tail}"
    texts, _ = select(DistinctEquations(), rollout((one, True), (other, True), (same, True)))
    assert texts == [f"<<1+1=2>>{kept}", other]


def test_responses_with_a_wrong_equation_and_wrong_responses_are_left_out():
    rows = [("<<1+1=3>> 6", True), ("<<2*3=6>> 6", True), ("<<2*3=6>> 7", False), ("no equation", True)]
    texts, counts = select(DistinctEquations(), rollout(*rows))
    assert texts == ["<<2*3=6>> 6", "no equation"]
    assert counts["num_wrong_equation"] == 1


def test_the_cap_and_what_it_leaves_out_are_counted():
    rows = [(f"<<1+{i}={1 + i}>>", True) for i in range(10)] + [("<<1+0=1>>", True)]
    texts, counts = select(DistinctEquations(), rollout(*rows))
    assert texts == [f"<<1+{i}={1 + i}>>" for i in range(8)]
    assert (counts["num_over_cap"], counts["num_copies"], counts["num_rows"]) == (2, 1, 8)


@pytest.mark.parametrize(
    ("equation", "right"),
    [
        ("48/2=24", True), (".5*100=50", True), ("(3+4)*2=14", True), ("1/3=0.3333", True), ("1/3=0.33", False),
        ("-3+5=2", True), ("2=1+1=2", False), ("2", False), ("x+1=2", False), ("1/0=1", False), ("=", False),
        ("9**9**9**9=1", False), ("(" * 500 + "1=1", False), ("__import__('os').getpid()=1", False),
    ],
)  # fmt: skip
def test_equations_hold_when_both_sides_are_numbers_within_a_thousandth(equation, right):
    assert holds(equation) is right


def test_gsm8ks_annotations_hold_as_python_computes_them():
    path = DATA_DIR / "gsm8k_train.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    equations = {
        equation
        for number, row in read_jsonl(path)
        if number <= 1500
        for equation in re.findall(r"<<([^<>]*)>>", row["solution"])
        if re.fullmatch(r"[1-9.][0-9.*/+()-]*=[0-9.]+", equation) and "//" not in equation
    }
    assert len(equations) > 2000

    def python(text: str) -> float:
        return eval(compile(ast.parse(text, mode="eval"), "equation", "eval"), {"__builtins__": {}})

    for equation in equations:
        left, _, right = equation.partition("=")
        assert holds(equation) == (abs(python(left) - python(right)) < 1e-3), equation


def test_texts_must_be_farther_apart_than_a_fifth_of_their_mean_length():
    # d("aaaaaaaaaa", "aaaaaaaabb") = 2, by the mean length 10: 0.2 is not above 0.2; three letters are.
    rows = [("a" * 10, True), ("a" * 8 + "bb", True), ("a" * 7 + "bbb", True)]
    assert select(DistinctTexts(), rollout(*rows))[0] == ["a" * 10, "a" * 7 + "bbb"]


def test_the_released_code_divides_by_the_first_length_and_half_the_second():
    # 10 + 10 // 2 = 15 instead of 10.
    one, other = "a" * 10, "a" * 7 + "bbb"  # 3 / 10, and 3 / (10 + 5)
    assert is_farther(one, other, 0.29)
    assert not is_farther(one, other, 0.3)
    assert is_farther(one, other, 0.19, "official")
    assert not is_farther(one, other, 0.2, "official")
    rows = [("a" * 10, True), ("a" * 7 + "bbb", True)]
    assert select(DistinctTexts(compat="official"), rollout(*rows))[0] == ["a" * 10]


@pytest.mark.parametrize("compat", ["none", "official"])
def test_a_distance_that_is_computed_in_part_decides_as_the_whole_one(compat):
    draw = random.Random(0)
    for _ in range(2000):
        one = "".join(draw.choice("abc") for _ in range(draw.randrange(30)))
        other = "".join(c for c in one if draw.random() > 0.2) + "b" * draw.randrange(4)
        size = len(one) + len(other) // 2 if compat == "official" else (len(one) + len(other)) / 2
        least = draw.choice([-0.1, 0.0, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0])
        whole = Levenshtein.distance(one, other) / max(size, 1) > least
        assert is_farther(one, other, least, compat) == whole, (one, other, least)


def test_responses_cut_at_the_token_limit_are_neither_right_nor_wrong_unless_asked_for():
    one = rollout(("good", True), ("half", True, "length"), ("bad", False), ("endless", False, "length"))

    def texts(**options):
        right, wrong, _ = DistinctTexts(**options).sides(one, CORRECT)
        return [s.response.text for s in right], [s.response.text for s in wrong]

    assert texts() == (["good"], ["bad"])
    assert texts(reject_cut=True) == (["good"], ["half", "bad", "endless"])


def test_what_follows_the_answers_line_is_cut_and_the_rest_read_again():
    rows = [
        ("So $6$.\nThe answer is $6$.", True),
        ("So $7$.\nThe answer is $7$.\nOr rather, the answer is $6$.", True),
        ("So $6$.\nThe answer is $6$.\nThe answer is $6$.\nThe ans", False, "length"),
        ("So \\boxed{6}", True),
    ]
    right, wrong, counts = DistinctTexts(answer_line=AnswerLine()).sides(rollout(*rows), CORRECT)
    # The second is wrong once it ends where its answer is, the third right and then a copy, the last has no such line.
    assert [s.response.text for s in right] == ["So $6$.\nThe answer is $6$."]
    assert [(s.response.text, s.answer) for s in wrong] == [("So $7$.\nThe answer is $7$.", "$7$.")]
    assert [s.response.steps for s in wrong] == [("So $7$.\n", "The answer is $7$.")]
    assert (counts["num_copies"], counts["num_without_end"]) == (1, 1)
