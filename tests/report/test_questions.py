"""A person's three questions to a page about several models, each answered in at most two clicks."""

from __future__ import annotations

import csv
import io

import pytest

from harness.commands.report import report
from harness.evals.compare import compare_folders
from harness.metrics.sequential import holm
from tests.report.test_page import browse, needs_chromium

HELP = """
const pause = () => new Promise((done) => setTimeout(done, 500));
const click = async (node) => { node.click(); await pause(); };
const words = (node) => node.textContent.replace(/\\s+/g, " ").trim();
"""


@pytest.fixture(scope="module")
def page(models, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert report([models], path) == 0
    return path


@needs_chromium
def test_three_questions_take_at_most_two_clicks(page, models, tmp_path):
    seen = browse(
        page,
        tmp_path,
        HELP
        + """
        const found = {};
        // Which model is better, and is it sure? No click: the page opens with it.
        found.verdicts = [...document.querySelectorAll("#verdicts li")].map(words);
        found.cells = [...document.querySelectorAll("tbody tr")[0].cells].map(words);
        // What changed between these two? One click: on their difference.
        await click(document.querySelector(".difference"));
        found.said = words(document.getElementById("said"));
        found.adjusted = words(document.getElementById("adjusted"));
        found.chips = [...document.querySelectorAll(".chips button")].map(words);
        found.sides = [...document.querySelectorAll(".beside .reason")].map(words);
        // What went wrong with this sample? A second click: on its problem.
        await click(document.querySelectorAll(".list button")[1]);
        found.second = [...document.querySelectorAll(".beside .reason")].map(words);
        found.here = location.hash;
        return found;
        """,
    )
    test, _ = compare_folders(models / "base/sums", models / "better/sums")
    others = compare_folders(models / "base/sums", models / "same/sums")[0]
    adjusted = holm([test.p_value, others.p_value])
    assert adjusted[0] < 0.05 < adjusted[1]
    assert len(seen["verdicts"]) == 1
    assert seen["verdicts"][0].endswith("better is better.")
    assert [cell.rsplit(" ", 1)[-1] for cell in seen["cells"][2:]] == ["better", "sure"]
    assert seen["cells"][2].startswith("0.833")
    assert "+0.500 [+0.370, +0.630]" in seen["cells"][2]
    assert seen["said"] == seen["verdicts"][0]
    assert seen["adjusted"].startswith("Beside the other tests against base (Holm): p = ")
    assert seen["adjusted"].endswith("still below 0.05.")
    assert seen["chips"] == [
        "30 changed",
        "30 only the second is right",
        "0 only the first is right",
        "20 both are right",
        "10 both are wrong",
        "60 all",
    ]
    assert seen["sides"] == ["answered -1, the gold is 21", "right: 21"]
    assert seen["second"] == ["answered -1, the gold is 22", "right: 22"]
    assert "problem=sum%2F21" in seen["here"]


@needs_chromium
def test_a_link_leads_straight_to_a_sample_and_to_a_comparison(page, tmp_path):
    sample = browse(
        page,
        tmp_path,
        "return [document.getElementById('problem').textContent, document.querySelectorAll('.linked').length];",
        "#Samples?set=better%2Fsums+%28sums%29&problem=sum%2F55&response=0",
    )
    assert sample[0].startswith("sum/55")
    assert sample[1] == 1
    compared = browse(
        page,
        tmp_path,
        "return [...document.querySelectorAll('.beside .reason')].map((node) => node.textContent);",
        "#Compare?task=sums&a=same%2Fsums&b=base%2Fsums&problem=sum%2F0",
    )
    assert compared == ["answered -1, the gold is 1", "right: 1"]


@needs_chromium
def test_tables_are_sorted_and_saved_and_axes_have_round_ticks(page, tmp_path):
    seen = browse(
        page,
        tmp_path,
        HELP
        + """
        const found = {};
        let saved;
        URL.createObjectURL = (blob) => { saved = blob; return "#"; };
        await click(document.querySelector("button.csv"));
        found.csv = await saved.text();
        const body = () => [...document.querySelectorAll("table")[1].tBodies[0].rows].map((row) => words(row.cells[6]));
        const head = document.querySelectorAll("table")[1].querySelectorAll("th button")[6];
        await click(head);
        found.up = body();
        await click(head);
        found.down = body();
        await show("Policy");
        found.questions = [...document.querySelectorAll("h2")].map(words);
        found.ticks = [...document.querySelector("svg").querySelectorAll(".y-tick")].map(words);
        found.legend = [...document.querySelector("svg").querySelectorAll("text")].map(words).slice(-2);
        found.scheme = getComputedStyle(document.documentElement).colorScheme;
        found.quoted = csv(["a"], [[{csv: ['=1,"x"']}], [{csv: [-3]}]]);
        return found;
        """,
    )
    head, row = csv.reader(io.StringIO(seen["csv"]))
    assert head[:4] == ["task", "base", "base low", "base high"]
    assert float(row[1]) == pytest.approx(1 / 3, abs=1e-5)
    assert seen["up"] == [*sorted(seen["up"][:3]), *seen["up"][3:]]
    assert seen["down"][:3] == sorted(seen["up"][:3], reverse=True)
    assert seen["questions"][0].startswith("Is the update a small one?")
    assert len(seen["questions"]) == 3
    assert seen["ticks"] == ["1", "1.2", "1.4", "1.6", "1.8"]
    assert seen["legend"] == ["ratio", "ratio_max"]
    assert seen["scheme"] == "light dark"
    assert seen["quoted"] == 'a\r\n"\'=1,""x"""\r\n-3\r\n'
