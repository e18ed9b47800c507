"""The judge is asked little, believed less, and its replies are kept."""

from __future__ import annotations

import ast
import json
from io import BytesIO
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.evals.judge import JUDGED, REPLIES, judge, label_of, read_judged
from harness.evals.run import run
from harness.report.blocks import BlockWriter, Choice
from harness.report.runs import evaluation as page_of
from harness.types import Problem
from tests.evals.conftest import ScriptedEngine
from tests.evals.test_run import evaluation, served
from tests.paths import ROOT

PROBLEMS = (
    Problem("right", "0 + 1", "1"),
    Problem("wrong", "1 + 1", "2"),
    Problem("rescued", "What colour?", "dark blue"),
    Problem("refused", "What colour now?", "green"),
    Problem("silent", "Which one?", "the first"),
)
ANSWERS = {"0 + 1": "#### 1", "1 + 1": "#### 3", "What colour?": "#### navy", "What colour now?": "#### red"}


@pytest.fixture
def folder(byte_tokenizer, tmp_path) -> Path:
    def answer(prompt, seed):
        return ANSWERS.get(byte_tokenizer.decode(prompt).partition(" = ")[0], "I do not know, sorry")

    run(evaluation(PROBLEMS), served(ScriptedEngine(byte_tokenizer, answer), byte_tokenizer), tmp_path / "e", {})
    return tmp_path / "e"


def judging(tokenizer, version="judge"):
    """A judge that takes navy for dark blue, and everything it should not be asked for right as well."""
    asked = []

    def answer(prompt, seed):
        text = tokenizer.decode(prompt)
        asked.append(text)
        return "B" if "Candidate answer:\nred" in text else "A"

    engine = ScriptedEngine(tokenizer, answer)
    engine.version = version
    return engine, asked


def test_only_what_rules_could_not_decide_is_asked_and_results_stay_as_they_are(folder, byte_tokenizer):
    before = (folder / "results.json").read_bytes()
    engine, asked = judging(byte_tokenizer)
    found = judge(folder, engine, byte_tokenizer, "some/judge")
    assert len(asked) == found["asked"] == 2
    assert all("colour" in text and "####" not in text for text in asked)
    assert found["accuracy"]["value"] == 0.2
    assert found["accuracy_with_judge"]["value"] == 0.4
    assert found["difference"] == pytest.approx(0.2)
    assert found["labels"]["text"] == {"right": 1, "wrong": 1, "invalid": 0}
    assert [row["problem"] for row in found["rescued"]] == ["rescued"]
    assert found["judge"]["weights"] == "judge"
    assert (folder / "results.json").read_bytes() == before
    page, _ = page_of(folder, "e", BlockWriter(BytesIO()), Choice())
    assert page["results"]["metrics"]["accuracy with judge some/judge"]["value"] == 0.4
    assert page["results"]["metrics"]["accuracy"]["value"] == 0.2


def test_replies_are_kept_until_judge_or_prompt_change(folder, byte_tokenizer, monkeypatch):
    first = judge(folder, judging(byte_tokenizer)[0], byte_tokenizer, "j")
    again, asked = judging(byte_tokenizer)
    assert judge(folder, again, byte_tokenizer, "j") == first
    assert not asked
    other, asked = judging(byte_tokenizer, "other weights")
    judge(folder, other, byte_tokenizer, "j")
    assert len(asked) == 2
    torn = (folder / REPLIES).read_bytes()
    (folder / REPLIES).write_bytes(torn[:-20])  # killed while it wrote the last reply
    third, asked = judging(byte_tokenizer, "other weights")
    judge(folder, third, byte_tokenizer, "j")
    assert len(asked) == 1


def test_what_was_said_of_other_samples_is_not_shown(folder, byte_tokenizer):
    judge(folder, judging(byte_tokenizer)[0], byte_tokenizer, "j")
    assert read_judged(folder) is not None
    path = folder / JUDGED
    text = path.read_text()
    path.write_text(text.replace('"asked": 2', '"asked": 1'))
    with pytest.raises(InputError, match=r"judged.json"):
        read_judged(folder)
    from harness.store import sealed, write_json

    write_json(path, sealed({**{k: v for k, v in json.loads(text).items() if k != "sha256"}, "samples": "others"}))
    assert read_judged(folder) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("A", "right"), (" B.", "wrong"), ("C", "invalid"), ("(A)", "right"), ("<think>B or C?</think>A", "right"),
        ("A or B", "invalid"), ("Yes", "invalid"), ("", "invalid"), ("Answer: A", "right"), ("AB", "invalid"),
    ],
)  # fmt: skip
def test_a_reply_is_one_letter(text, label):
    assert label_of(text) == label


def test_problems_without_golds_are_refused(byte_tokenizer, tmp_path):
    from harness.types import Instruction

    problems = (Problem("p", "Say it.", instructions=(Instruction("punctuation:no_comma"),)),)
    engine = ScriptedEngine(byte_tokenizer, lambda prompt, seed: "it")
    run(evaluation(problems), served(engine, byte_tokenizer), tmp_path / "e", {})
    with pytest.raises(InputError, match="no gold answers"):
        judge(tmp_path / "e", engine, byte_tokenizer, "j")


def test_nothing_that_trains_knows_of_the_judge():
    users = set()
    for path in (ROOT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "harness.evals.judge":
                users.add(path.relative_to(ROOT / "harness").as_posix())
    assert users == {"commands/judge.py", "report/runs.py"}
