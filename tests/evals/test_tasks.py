import csv
import gzip
import json
import re
from dataclasses import replace

import pytest

from harness.errors import InputError
from harness.evals.rows import lettered, load_task, task_file
from harness.evals.task import Hub, Task, find_tasks, shipped_tasks
from harness.grading import PROTOCOLS, grade
from harness.grading.instructions import INSTRUCTIONS
from harness.prompts.evaluation import EVAL_TEMPLATES
from harness.prompts.find import find_template
from harness.prompts.templates import TEMPLATES
from harness.rollouts.verdicts import grade_pairs
from harness.store import read_jsonl
from tests.paths import ROOT

NOT_AT_HAND = ("gpqa_diamond", "mmlu_pro")
FILE_TASKS = [
    name for name, task in shipped_tasks().items() if task.file and task.kind != "code" and name not in NOT_AT_HAND
]


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def load(path, **options):
    return load_task(find_tasks(str(path))[0], **options)


@pytest.mark.parametrize("name", FILE_TASKS)
def test_the_data_folder_holds_as_many_rows_as_published(name, data_dir):
    task = shipped_tasks()[name]
    path = task_file(task, data_dir)
    assert sum(1 for _ in read_jsonl(path)) == task.num_rows
    assert len(load_task(task, data_dir).problems) == task.num_problems


def test_all_tasks_of_the_list_are_there():
    expected = (
        "gsm8k math math500 aime2024 aime2025 amc23 collegemath gaokao2023en olympiadbench omni-math minerva_math "
        "svamp asdiv mawps multiarith gsm_hard aqua sat_math mmlu_stem carp_en cmath theoremqa arc_challenge arithmetic"
    )
    assert set(expected.split()) <= set(shipped_tasks())


@pytest.mark.parametrize("name", list(shipped_tasks()))
def test_a_task_says_where_it_comes_from_and_how_it_is_asked(name):
    task = shipped_tasks()[name]
    assert task.description
    assert task.source
    assert task.licence
    assert task.num_rows
    assert find_template(task.protocol).answer_protocol in PROTOCOLS
    if task.hub:
        assert re.fullmatch(r"[0-9a-f]{40}", task.hub.revision)


def test_the_page_of_tasks_names_each_with_its_rows_and_licence():
    lines = (ROOT / "docs" / "tasks.md").read_text().splitlines()
    found = {cells[1].strip(" `"): cells for line in lines if len(cells := line.split("|")) == 9}
    for name, task in shipped_tasks().items():
        assert found[name][2].strip().startswith(f"{task.num_rows:,}")
        assert found[name][5].strip() == task.licence
    assert f"| benchmarks | {len(shipped_tasks())}, " in (ROOT / "README.md").read_text()


def test_a_file_with_another_row_count_is_refused(tmp_path):
    write(tmp_path / "gsm8k.jsonl", [{"question": "1 + 1", "answer": "2"}])
    with pytest.raises(InputError, match=r"1 rows, but 'gsm8k' is published with 1319"):
        load_task(shipped_tasks()["gsm8k"], tmp_path)


def test_the_built_in_task_is_the_same_every_time_and_disjoint_from_training():
    from itertools import islice

    from harness.arithmetic.problems import problems

    first, second = load_task(shipped_tasks()["arithmetic"]), load_task(shipped_tasks()["arithmetic"])
    assert first == second
    trained = {problem.question for problem in islice(problems("train", 0), 3000)}
    assert not trained & {problem.question for problem in first.problems}


def test_a_limit_of_a_random_order_is_a_part_of_every_larger_one(data_dir):
    task = shipped_tasks()["math500"]
    few, more = (load_task(task, data_dir, limit=limit, order=3) for limit in (20, 50))
    assert more.problems[:20] == few.problems
    assert few.problems != load_task(task, data_dir, limit=20).problems
    assert few.limit == {"problems": 20, "of": 500, "order": 3}
    assert len({problem.subject for problem in few.problems}) > 4


def test_names_groups_and_paths_can_be_mixed(tmp_path):
    path = write(tmp_path / "mine.jsonl.gz", [])
    path.write_bytes(gzip.compress(b'{"question": "2 + 2", "answer": 4}\n'))
    tasks = find_tasks(f"gsm8k, {path},gsm8k")
    assert [task.name for task in tasks] == ["gsm8k", "mine"]
    assert load(path).problems[0].answer == "4"
    assert {task.kind for task in find_tasks("all-math")} == {"math"}
    assert len(find_tasks("all-choice")) == 6


def test_tasks_are_found_by_the_groups_that_they_name():
    assert {"aime2026", "hmmt_feb_2025", "olymmath_zh_hard", "amc23"} <= {
        task.name for task in find_tasks("competition")
    }
    assert {"math_perturb_hard", "gsm_plus", "gsm_hard"} <= {task.name for task in find_tasks("robustness")}
    assert "robustness" not in shipped_tasks()
    with pytest.raises(InputError, match="did you mean 'robustness'"):
        find_tasks("robustnes")


@pytest.mark.parametrize(("name", "clusters"), [("gsm_plus", 300), ("gsm_symbolic_p2", 50), ("bbeh_mini", 23)])
def test_rows_that_are_not_independent_know_their_cluster(name, clusters, data_dir):
    found = {problem.cluster for problem in load_task(shipped_tasks()[name], data_dir).problems}
    assert len(found) == clusters


def test_both_variants_of_a_perturbed_problem_are_of_one_cluster(data_dir):
    simple, hard = (load_task(shipped_tasks()[f"math_perturb_{v}"], data_dir).problems for v in ("simple", "hard"))
    assert {problem.cluster for problem in simple} == {problem.cluster for problem in hard}


def test_the_prompts_of_ifeval_are_read_with_their_instructions(data_dir):
    problems = load_task(shipped_tasks()["ifeval"], data_dir).problems
    assert len(problems) == 541
    assert sum(len(problem.instructions) for problem in problems) == 834
    assert {each.name for problem in problems for each in problem.instructions} == set(INSTRUCTIONS)
    by_path = load_task(find_tasks(str(data_dir / "ifeval.jsonl"))[0])  # rows without a gold, by their path
    assert [problem.instructions for problem in by_path.problems] == [problem.instructions for problem in problems]


def test_a_reference_solution_in_code_keeps_the_blanks_that_it_begins_with(data_dir):
    problem = load_task(shipped_tasks()["humaneval"], data_dir, limit=1).problems[0]
    compile(f"{problem.question}\n{problem.solution}", "humaneval", "exec")  # the solution continues the prompt


def test_an_unknown_task_names_the_nearest_one():
    with pytest.raises(InputError, match="did you mean 'math500'"):
        find_tasks("math50")
    with pytest.raises(InputError, match="no task given"):
        find_tasks(" , ")


def test_an_unknown_protocol_names_the_nearest_one():
    with pytest.raises(InputError, match="did you mean 'boxed'"):
        find_template("boxd")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "1", "answer": "2"}, '{"question": '], r"mine.jsonl:2: not valid JSON"),
        ([{"answer": "2"}], r"mine.jsonl:1: missing column 'question'"),
        ([{"question": "1"}], r"mine.jsonl:1: missing column 'answer'"),
        ([{"question": "1", "answer": "2"}, {"question": "1", "answer": " "}], r"mine.jsonl:2: 1 rows have an empty"),
        ([{"id": "a", "question": "1", "answer": "2"}] * 2, r"mine.jsonl:2: id 'a' stands at .*mine.jsonl:1 already"),
        ([{"question": "1", "answer": "Z", "choices": ["x", "y"]}], r"mine.jsonl:1: the gold answer 'Z' is none of"),
        ([], "holds no rows"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        load(write(tmp_path / "mine.jsonl", rows))


def test_a_task_without_data_says_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)
    with pytest.raises(InputError, match=r"HARNESS_DATA_DIR at a folder that holds amc23.jsonl"):
        load_task(shipped_tasks()["amc23"])
    with pytest.raises(InputError, match=r"no such folder"):
        load_task(shipped_tasks()["amc23"], tmp_path / "none")


def test_rows_of_the_hub_get_the_columns_that_the_task_names():
    from harness.evals.rows import _in_file_columns, to_problem

    hub = Hub("owner/data", "0" * 40, columns={"solution": "answer"}, answer_marker="####")
    row = {"question": "How many?", "answer": "2 + 3 = 5\n#### 1,005"}
    for columns in ({}, {"question": "asked", "solution": "worked"}):
        task = Task("toy", hub=hub, columns=columns)
        problem = to_problem(_in_file_columns(row, task), "row 0", 0, task, task.columns)
        assert (problem.id, problem.answer, problem.solution) == ("toy/0", "1,005", "2 + 3 = 5\n#### 1,005")


@pytest.mark.parametrize(
    ("choices", "answer", "options", "letter"),
    [
        (["A)x", "B)y"], "B", ("(A) x", "(B) y"), "B"),
        (["1) x", "2) y", "3) z"], "3", ("(A) x", "(B) y", "(C) z"), "C"),
        (["plain", "words"], "A", ("(A) plain", "(B) words"), "A"),
        ("A) $f(2)$ B) 4 C) B. D) none", "C", ("(A) $f(2)$", "(B) 4", "(C) B.", "(D) none"), "C"),
        ({"label": ["1", "2"], "text": ["x", "y"]}, "2", ("(A) x", "(B) y"), "B"),
        ({"A": "x", "B": "y"}, "A", ("(A) x", "(B) y"), "A"),
    ],
)
def test_options_get_letters_whatever_labels_the_source_has(choices, answer, options, letter):
    assert lettered(choices, answer, "row") == (options, letter)


def test_arc_rows_with_digit_keys_are_scorable(data_dir):
    task = shipped_tasks()["arc_challenge"]
    digits = [row["id"] for _, row in read_jsonl(task_file(task, data_dir)) if row["answer"].isdigit()]
    problems = {problem.id: problem for problem in load_task(task, data_dir).problems}
    assert len(digits) == 22
    for name in digits:
        problem = problems[name]
        assert f"({problem.answer}) " in problem.question
        assert grade(f"Final answer: ({problem.answer})", problem.answer, protocol=PROTOCOLS["final_answer"]).correct


@pytest.mark.parametrize("name", [name for name in FILE_TASKS if shipped_tasks()[name].kind == "choice"])
def test_every_gold_letter_is_one_of_the_options(name, data_dir):
    for problem in load_task(shipped_tasks()[name], data_dir).problems:
        assert len(problem.choices) >= 2, problem.id
        assert "ABCDEFGHIJ".index(problem.answer) < len(problem.choices)


@pytest.mark.parametrize("name", [*EVAL_TEMPLATES])
def test_the_worked_examples_of_a_protocol_are_right_under_it(name):
    template = EVAL_TEMPLATES[name]
    golds = {"gsm8k": ["68", "75", "20", "48"], "boxed": ["7", "1/4", "8\\sqrt{2}", "(-\\infty,5)"]}
    golds["final_answer"] = ["B", "C"]
    for (_, response), gold in zip(template.few_shot, golds.get(template.answer_protocol, []), strict=False):
        assert grade(response, gold, protocol=PROTOCOLS[template.answer_protocol]).correct, response
        assert all(stop not in response for stop in template.stop)


def test_evaluation_does_not_shadow_a_shared_template():
    assert not set(EVAL_TEMPLATES) & set(TEMPLATES)


def test_a_yaml_file_of_ones_own_is_a_task(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"ask": "1+1", "gold": "2"}\n{"ask": "2+2", "gold": "4"}\n')
    path = tmp_path / "sums.yaml"
    path.write_text(
        "file: rows.jsonl\nnum_rows: 2\nprotocol: {user: '{question}='}\ncolumns: {question: ask, answer: gold}\n"
    )
    [task] = find_tasks(str(path))
    assert task.name == "sums"
    assert find_template(task.protocol).user == "{question}="
    assert [(p.question, p.answer) for p in load_task(task).problems] == [("1+1", "2"), ("2+2", "4")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fle: rows.jsonl", "sums.yaml: unknown key 'fle'; did you mean 'file'"),
        ("file: none.jsonl", "none.jsonl: no such file"),
        ("num_rows: 3", "give file .* or hub"),
        ("{file: rows.jsonl, kind: maths}", "'kind': expected 'math' or 'choice' or 'code' or 'text', found 'maths'"),
        ("hub: openai/gsm8k", "hub is 'openai/gsm8k'; give it dataset"),
        ("hub: {dataset: a/b}", "sums.yaml: hub: revision is missing"),
        ("- a", "expected a mapping"),
        ("a: [", r"sums.yaml:\d: not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_tasks_file_is_said_in_one_sentence(tmp_path, text, message):
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1", "answer": "2"}\n')
    (tmp_path / "sums.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        find_tasks(str(tmp_path / "sums.yaml"))


def test_gpqa_is_read_from_its_published_columns(tmp_path):
    rows = [
        {
            "Record ID": f"rec{i}",
            "Question": f"Which of them is {i}?\n",
            "Correct Answer": f"{i} \n",
            "Incorrect Answer 1": f"{i + 1}",
            "Incorrect Answer 2": f"{i + 2}",
            "Incorrect Answer 3": f"{i + 3}",
            "Explanation": "by counting",
            "Subdomain": "Numbers",
            "High-level domain": "Arithmetic",
            "Canary String": "none",
        }
        for i in range(40)
    ]
    with open(tmp_path / "gpqa_diamond.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    task = replace(shipped_tasks()["gpqa_diamond"], num_rows=40)
    problems = load_task(task, tmp_path).problems
    assert load_task(task, tmp_path).problems == problems
    assert [problem.id for problem in problems] == [row["Record ID"] for row in rows]
    assert {problem.answer for problem in problems} == set("ABCD")
    for i, problem in enumerate(problems):
        assert f"({problem.answer}) {i}" in problem.choices
        assert sorted(choice[4:] for choice in problem.choices) == sorted(str(i + j) for j in range(4))
        assert problem.question.endswith("\n".join(problem.choices))
        assert (problem.subject, problem.solution) == ("Numbers", "by counting")


def test_mmlu_pro_is_read_from_its_published_columns_with_up_to_ten_options(tmp_path):
    rows = [
        {
            "question_id": 70 + i,
            "question": "Which?",
            "options": [f"option {j}" for j in range(10 - i)],
            "answer": "ABCDEFGHIJ"[9 - i],
            "answer_index": 9 - i,
            "cot_content": "",
            "category": "law",
            "src": "x",
        }
        for i in range(3)
    ]
    write(tmp_path / "mmlu_pro.jsonl", rows)
    task = replace(shipped_tasks()["mmlu_pro"], num_rows=3)
    first, _, third = load_task(task, tmp_path).problems
    assert (first.id, first.answer, first.choices[-1], first.subject) == ("70", "J", "(J) option 9", "law")
    assert (third.answer, len(third.choices)) == ("H", 8)
    pairs = [(first, "Final answer: (J)"), (first, "Final answer: (I)"), (first, "Final answer: J")]
    protocol = find_template(task.protocol).answer_protocol
    assert [verdict.correct for verdict in grade_pairs(pairs, protocol, "strict")] == [True, False, True]
