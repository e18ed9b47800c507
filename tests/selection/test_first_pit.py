import pytest

from harness.errors import InputError
from harness.rollouts.explorations import Explored
from harness.search.step_explore import Continuation, Exploration, ExploredStep
from harness.selection.first_pit import FirstPitPairs, official_answer
from harness.types import Completion, Problem, Response

STEPS = ("s1\n", "s2\n", "s3\n", "The answer is 5\n")


def drawn(*texts: str, reason: str = "stop") -> tuple[Continuation, ...]:
    """Continuations, those that end in "ok" right."""
    return tuple(Continuation(Completion(text, finish_reason=reason), text.endswith("ok")) for text in texts)


def exploration(pit: int | None, *steps: tuple[Continuation, ...], response=STEPS) -> Exploration:
    explored = tuple(ExploredStep(count, continuations) for count, continuations in enumerate(steps, 1))
    return Exploration(Response(response, "stop"), explored, pit)


def pairs(*explorations: Exploration, chosen: tuple[str, ...] = (), **options):
    chosen = chosen or tuple(f"right {i}" for i in range(len(explorations)))
    rows = [Explored(Problem("p", "Q"), chosen, explorations)]
    found, dropped = FirstPitPairs(**options)(rows, lambda problem: f"{problem.question}\n")
    assert all(pair.problem_id == "p" for pair in found)
    return [(pair.prompt, pair.chosen, pair.rejected) for pair in found], {k: n for k, n in dropped.items() if n}


AT_SECOND = exploration(1, drawn("longer ok", "ok", "no", "no"), drawn("no"))


def test_a_later_pit_is_rejected_alone_and_the_shortest_success_before_it_chosen():
    assert pairs(AT_SECOND) == ([("Q\ns1\n", "ok", "s2\n")], {})


def test_at_a_first_step_the_outcome_pairs_right_response_is_chosen():
    assert pairs(exploration(0, drawn("no"))) == ([("Q\n", "right 0", "s1\n")], {})


def test_without_a_pit_there_is_no_pair():
    assert pairs(exploration(None, drawn("ok"))) == ([], {"no pit": 1})


def test_a_success_is_chosen_once_for_a_problem():
    other = ("s1\n", "x\n", "The answer is 7")
    again = [exploration(1, AT_SECOND.explored[0].continuations, drawn("no"), response=other)] * 2
    found, dropped = pairs(AT_SECOND, *again)
    assert found == [("Q\ns1\n", "ok", "s2\n"), ("Q\ns1\n", "longer ok", "x\n")]
    assert dropped == {"no unused right continuation": 1}


def test_a_success_that_repeats_the_pit_is_not_chosen():
    same = exploration(1, drawn("ok", "longer ok"), response=("s1\n", "ok"))
    assert pairs(same)[0] == [("Q\ns1\n", "longer ok", "ok")]


def test_a_success_that_was_cut_at_the_token_limit_is_not_chosen():
    cut = exploration(1, drawn("ok", reason="length") + drawn("longer ok"), drawn("no"))
    assert pairs(cut)[0] == [("Q\ns1\n", "longer ok", "s2\n")]
    right = "So the answer is 5"
    cut = exploration(1, drawn(right, reason="length"), drawn("no"))
    assert pairs(cut, chosen=("The answer is $5$.",), compat="official_math")[0] == [("Q\ns1\n", right, "s2\n")]


def test_no_step_is_rejected_twice_for_a_problem():
    first = exploration(0, drawn("no"))
    assert pairs(first, first) == ([("Q\n", "right 0", "s1\n")], {"rejected used before": 1})
    assert pairs(first, exploration(0, drawn("no"), response=("t\n",)), chosen=("r", "r"))[1] == {
        "chosen used before": 1
    }


def test_problems_do_not_share_what_is_used():
    rows = [Explored(Problem(name, "Q"), ("right",), (exploration(0, drawn("no")),)) for name in "ab"]
    assert len(FirstPitPairs()(rows, lambda problem: "Q\n")[0]) == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"span": "suffix"}, ("Q\ns1\n", "ok", "s2\ns3\nThe answer is 5\n")),
        ({"span": "suffix", "cut_answer": "The answer is"}, ("Q\ns1\n", "ok", "s2\ns3\n")),
        ({"span": "whole"}, ("Q\n", "s1\nok", "s1\ns2\ns3\nThe answer is 5\n")),
        ({"span": "whole", "cut_answer": "The answer is"}, ("Q\n", "s1\nok", "s1\ns2\ns3\n")),
    ],
)
def test_the_rejected_span_is_a_choice(options, expected):
    assert pairs(AT_SECOND, **options)[0] == [expected]


def test_a_pit_on_the_answers_line_is_rejected_whole():
    at_answer = exploration(3, drawn("ok"), drawn("ok"), drawn("ok"))
    assert pairs(at_answer, cut_answer="The answer is")[0] == [("Q\ns1\ns2\ns3\n", "ok", "The answer is 5\n")]


def test_prefixes_stay_as_they_were_sampled():
    steps = ("We note that", " so.\n\n", "x")
    chosen = " the answer is 5."
    found = exploration(1, answers(chosen), drawn("no"), response=steps)
    assert pairs(found)[0] == [("Q\nWe note that", chosen, " so.\n\n")]
    # The released code puts a newline where none was sampled.
    official = pairs(found, chosen=("The answer is 5.",), compat="official_math")
    assert official == ([("Q\nWe note that\n", chosen, " so.\n\n")], {})


def answers(*texts: str) -> tuple[Continuation, ...]:
    return tuple(Continuation(Completion(text), True) for text in texts)


@pytest.mark.parametrize("answer", ["1,000", "5."])
def test_the_released_code_does_not_know_its_own_answers_again(answer):
    written = gold = f"The answer is {answer}"
    one = exploration(None, answers(written, written), answers(written, written), response=STEPS)
    assert pairs(one, chosen=(gold,)) == ([], {"no pit": 1})
    assert pairs(one, chosen=(gold,), compat="official_gsm8k") == ([("Q\n", gold, "s1\n")], {})


def test_the_released_code_rejects_an_empty_text_at_the_answers_line():
    right, end = "The answer is 5", ("So.\n\n", "The answer is 6")
    one = exploration(1, answers(f" so. {right}", right), drawn("", ""), response=end)
    assert pairs(one, chosen=(right,), compat="official_gsm8k")[0] == [("Q\nSo.\n", right, "")]
    # Ours keeps the line, and the blank line that was sampled.
    assert pairs(one, chosen=(right,))[0] == [("Q\nSo.\n\n", right, "The answer is 6")]


@pytest.mark.parametrize("compat", ["official_gsm8k", "official_math"])
def test_string_comparison_needs_every_continuation(compat):
    one = exploration(1, answers("The answer is 5"), drawn("no", "no"))
    with pytest.raises(InputError, match=f"compat '{compat}' needs all continuations of every step"):
        pairs(one, compat=compat)


def test_the_released_code_finds_an_earlier_pit_in_math_where_a_value_is_written_otherwise():
    gold, other, same = (f"The answer is ${answer}$." for answer in (r"\frac{1}{4}", "0.25", r"\dfrac 14"))
    one = exploration(2, answers(same, "no"), answers(other, other), drawn("no", "no"))
    assert pairs(one, chosen=(gold,), compat="official_math")[0] == [("Q\ns1\n", same, "s2\n")]
    # Ours takes the values for the same: the pit is a step later.
    assert pairs(one, chosen=(gold,))[0] == [("Q\ns1\ns2\n", other, "s3\n")]


@pytest.mark.parametrize(
    ("text", "answer"),
    [("1,000", "1000"), ("5.50", "5.5"), (".5", "0.5"), ("5.", "5"), ("007", "007"), ("25%", "25"), ("$18", None)],
)
def test_official_answers_are_normalised_numbers(text, answer):
    assert official_answer(f"So.\nThe answer is {text}") == answer
