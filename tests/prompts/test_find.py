import json

import pytest

from harness.errors import InputError
from harness.grading import PROTOCOLS
from harness.prompts.find import find_template
from harness.prompts.templates import TEMPLATES, PromptTemplate, StepFormat
from harness.rollouts.verdicts import grade_pairs
from harness.types import Problem


def test_a_template_is_found_by_name_among_those_of_training_and_of_evaluation():
    assert find_template("gsm8k") is TEMPLATES["gsm8k"]
    assert find_template("gsm8k_few_shot").few_shot
    own = PromptTemplate("own")
    assert find_template(own) is own


def test_a_yaml_file_is_a_template_named_after_it(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("user: 'Q: {question} A:'\nfew_shot: [[1+1, ' 2']]\nsteps: paragraphs\nstop: ['Q:']\n")
    found = find_template(str(path))
    assert (found.name, found.stop, found.steps) == ("mine", ("Q:",), StepFormat(r"\n\n"))
    assert found.render(Problem("1", "2+2", "4")) == "Q: 1+1 A: 2\n\nQ: 2+2 A:"


def test_a_mapping_changes_what_it_names_of_its_base_and_nothing_else():
    found = find_template({"base": "gsm8k", "user": "{question}", "steps": "; "})
    assert (found.user, found.steps) == ("{question}", StepFormat("; "))
    assert found.answer_protocol == TEMPLATES["gsm8k"].answer_protocol
    assert found.name == "own"


def test_a_template_brings_its_own_rules_for_the_answer():
    rules = [{"kind": "marker", "pattern": "RESULT: *", "scope": "line"}]
    found = find_template({"answer_protocol": {"rules": rules}})
    problem = Problem("1", "6*7", "42")
    pairs = [(problem, "It is 41.\nRESULT: 42\nnot 43"), (problem, "RESULT: 43\n42")]
    assert [verdict.correct for verdict in grade_pairs(pairs, found.answer_protocol, "strict")] == [True, False]


BAD_TEMPLATES = [
    ("gsm8", "did you mean 'gsm8k'"),
    ("none.yaml", "none.yaml: no such file"),
    ({"usr": "x"}, "unknown key 'usr'; did you mean 'user'"),
    ({"base": "gsm8"}, "unknown prompt template 'gsm8'"),
    ({"steps": 3}, "steps is 3; give lines, paragraphs"),
    ({"answer_protocol": "boxd"}, "unknown answer protocol 'boxd'; known: .*boxed"),
    ({"answer_protocol": {}}, "answer_protocol: rules is missing"),
    ({"answer_protocol": {"rules": [{"kind": "regex"}]}}, "'kind': expected 'boxed' or .* found 'regex'"),
    ({"answer_protocol": {"rules": [{"kind": "marker", "pattern": "("}]}}, "is no regular expression"),
]


@pytest.mark.parametrize(("given", "message"), BAD_TEMPLATES)
def test_what_is_wrong_with_a_template_is_said_in_one_sentence(given, message):
    with pytest.raises(InputError, match=message):
        find_template(given)


def test_every_shipped_template_names_a_known_answer_protocol():
    from harness.prompts.find import known_templates

    assert {template.answer_protocol for template in known_templates().values()} <= set(PROTOCOLS)


ROWS = [{"id": str(i), "question": f"{i}+1", "answer": str(i + 1), "solution": f"it is {i + 1}"} for i in range(9)]


def test_examples_are_drawn_from_a_file_by_number_and_seed(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    first = find_template({"few_shot": {"file": str(path), "k": 2}})
    assert first.few_shot == (("0+1", "it is 1"), ("1+1", "it is 2"))
    drawn = find_template(
        {"few_shot": {"file": str(path), "k": 3, "seed": 5, "response": " {solution}\n#### {answer}"}}
    )
    again = find_template(
        {"few_shot": {"file": str(path), "k": 3, "seed": 5, "response": " {solution}\n#### {answer}"}}
    )
    other = find_template(
        {"few_shot": {"file": str(path), "k": 3, "seed": 6, "response": " {solution}\n#### {answer}"}}
    )
    assert drawn == again != other
    assert len(set(drawn.few_shot)) == 3
    question, response = drawn.few_shot[0]
    assert response == f" it is {int(question[0]) + 1}\n#### {int(question[0]) + 1}"
    # What is on disk is compared by the examples themselves, however they were drawn.
    assert drawn.identity() != other.identity()
    assert find_template({"few_shot": [list(shot) for shot in drawn.few_shot]}).identity() == drawn.identity()


@pytest.mark.parametrize(
    ("shots", "message"),
    [
        ({"k": 2}, "few_shot: file is missing"),
        ({"file": "ROWS", "k": 10}, "few_shot: k is 10, and .* has 9 rows"),
        ({"file": "ROWS", "number": 2}, "few_shot: unknown key 'number'; known: file, k, seed, response"),
        ({"file": "none.jsonl"}, "none.jsonl: no such file"),
        ({"file": "BARE"}, "problem '0' of .*bare.jsonl has no column 'solution'"),
    ],
)
def test_examples_that_cannot_be_had_are_one_sentence(tmp_path, shots, message):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    bare = [{key: value for key, value in row.items() if key != "solution"} for row in ROWS]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    places = {"ROWS": str(tmp_path / "rows.jsonl"), "BARE": str(tmp_path / "bare.jsonl")}
    given = {name: places.get(str(value), value) for name, value in shots.items()}
    with pytest.raises(InputError, match=message):
        find_template({"few_shot": given})
