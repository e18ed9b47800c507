"""The page in headless Chromium: it opens from disk, filters, shows samples, and logs no error."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from harness.commands.report import report
from harness.errors import InputError

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")

CATCH = """<script>
const problems = [];
addEventListener("error", (event) => problems.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => problems.push("blocked " + event.blockedURI));
const said = console.error; console.error = (...words) => { problems.push(words.join(" ")); said(...words); };
</script>"""


def browse(page, tmp_path, script: str):
    """Run a script in the opened page; what it returns as JSON, and the errors that were seen."""
    text = page.read_text(encoding="utf-8").replace("<body>", f"<body>{CATCH}")
    driver = (
        "<script>let seen; try { seen = (() => {" + script + "})(); } catch (e) { problems.push(String(e)); }"
        "document.body.replaceChildren(Object.assign(document.createElement('pre'), "
        "{id: 'outcome', textContent: JSON.stringify({seen, problems})}));</script>"
    )
    copy = tmp_path / "driven.html"
    copy.write_text(text.replace("</body>", f"{driver}</body>"), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    [outcome] = re.findall(r'<pre id="outcome">(.*?)</pre>', done.stdout, re.DOTALL)
    found = json.loads(html.unescape(outcome))
    assert found["problems"] == []
    return found["seen"]


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert report([runs], path, title="Two <runs>") == 0
    return path


def test_the_page_asks_for_nothing_from_outside(page):
    text = page.read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", text)
    assert "default-src 'none'" in text
    # What a model wrote cannot end the block of data.
    assert "</script><img" not in text


def test_options_are_checked(runs, tmp_path):
    with pytest.raises(InputError, match="no run given"):
        report([], tmp_path / "x.html")
    with pytest.raises(InputError, match="max_problems is -1"):
        report([runs], tmp_path / "x.html", max_problems=-1)


@needs_chromium
def test_every_tab_opens_without_an_error(page, tmp_path):
    seen = browse(
        page,
        tmp_path,
        """
        const tabs = [...document.querySelectorAll("[role=tab]")].map((tab) => tab.textContent);
        const sizes = {};
        for (const tab of tabs) {
            show(tab);
            const view = document.getElementById("view");
            sizes[tab] = [view.textContent.length > 40, view.querySelectorAll("svg").length];
        }
        return {tabs, sizes, title: document.title, heading: document.querySelector("h1").textContent};
        """,
    )
    assert seen["tabs"] == ["Results", "Breakdown", "Training", "Samples"]
    assert all(full for full, _ in seen["sizes"].values())
    assert seen["sizes"]["Results"][1] == 1
    assert seen["sizes"]["Training"][1] >= 4
    assert seen["title"] == seen["heading"] == "Two <runs>"


@needs_chromium
def test_samples_are_filtered_searched_and_shown_with_formulas(page, tmp_path):
    seen = browse(
        page,
        tmp_path,
        """
        show("Samples");
        const count = () => document.querySelectorAll(".list button").length;
        const choose = (id, value) => {
            const box = document.getElementById(id);
            box.value = value;
            box.dispatchEvent(new Event(box.tagName === "SELECT" ? "change" : "input"));
        };
        const found = {all: count()};
        for (const kind of ["right", "no answer", "disagreement", "truncated"]) {
            choose("kind", kind);
            found[kind] = count();
        }
        choose("kind", "no answer");
        found.shown = document.querySelectorAll(".response").length;
        found.images = document.querySelectorAll("#view img").length;
        choose("kind", "all");
        choose("find", "11 + 1");
        found.search = count();
        found.focused = document.activeElement.id;
        found.marked = document.querySelector("#problem mark").textContent;
        found.fractions = document.querySelectorAll("#problem mfrac").length;
        return found;
        """,
    )
    assert seen["all"] == 12
    assert seen["no answer"] == 1
    assert seen["shown"] == 4
    assert seen["truncated"] == 0
    assert 0 < seen["disagreement"] <= seen["right"] <= 11
    assert seen["images"] == 0
    assert (seen["search"], seen["focused"], seen["marked"]) == (1, "find", "11 + 1")
    assert seen["fractions"] == 4


@needs_chromium
def test_the_chosen_cell_is_marked_and_trees_unfold(page, tmp_path):
    seen = browse(
        page,
        tmp_path,
        """
        show("Training");
        const chosen = [...document.querySelectorAll("td.chosen")].map((cell) => cell.textContent);
        show("Samples");
        const set = document.getElementById("set");
        set.value = set.options.length - 2;
        set.dispatchEvent(new Event("change"));
        const values = [...document.querySelectorAll(".step .value")].slice(0, 2).map((cell) => cell.textContent);
        document.getElementById("tree").click();
        const nodes = [...document.querySelectorAll(".tree summary")].map((node) => node.textContent);
        return {chosen, values, nodes, name: set.selectedOptions[0].textContent};
        """,
    )
    assert seen["chosen"] == ["0.400", "0.500"]
    assert seen["values"] == ["1.000", "1.000"]
    # Iteration 2: all four share the first step, two each of the right and the wrong answer.
    assert seen["nodes"] == ["2/41.00012 + 2", "2/21.000#### 14", "0/20.000#### 13"]


@needs_chromium
def test_search_trees_unfold_node_by_node(page, tmp_path):
    seen = browse(
        page,
        tmp_path,
        """
        show("Samples");
        const set = document.getElementById("set");
        set.value = set.options.length - 1;
        set.dispatchEvent(new Event("change"));
        const words = (node) => node.querySelector("summary").textContent;
        const inside = (node) => [...node.children].filter((child) => child.tagName === "DETAILS");
        const [first, second] = document.querySelectorAll(".tree > details");
        const found = {name: set.selectedOptions[0].textContent, roots: [words(first), words(second)]};
        found.steps = inside(first).map(words);
        found.before = document.querySelectorAll(".tree details").length;
        inside(first)[0].querySelector("summary").click();
        inside(first)[0].fill();
        found.leaves = inside(inside(first)[0]).map(words);
        found.open = inside(first)[0].open;
        found.whole = inside(first)[0].querySelector(".step-text").textContent;
        found.fractions = document.querySelectorAll("#problem mfrac").length;
        document.getElementById("unfold").click();
        found.after = document.querySelectorAll(".tree details").length;
        found.error = inside(first)[1].textContent;
        document.getElementById("fold").click();
        found.folded = document.querySelectorAll(".tree details[open]").length;
        document.getElementById("tree").click();
        found.cards = document.querySelectorAll(".response").length;
        found.values = [...document.querySelectorAll(".step .value")].map((cell) => cell.textContent);
        const find = document.getElementById("find");
        find.value = "1 / 0";
        find.dispatchEvent(new Event("input"));
        found.search = document.querySelectorAll(".list button").length;
        return found;
        """,
    )
    assert seen["name"] == "trees.jsonl (search trees)"
    assert seen["roots"][0] == "1/2 rightQ 0.250, visits 4 tree 1 of 2: 5 nodes"
    assert seen["steps"] == [
        "1/2 rightQ 0.500, visits 3, value 0.500 12 + 2",
        "code errorQ -1.000, visits 1, value -1.000 print(1 / 0)",
    ]
    assert seen["before"] == 6
    assert seen["open"]
    assert seen["leaves"] == [
        "rightQ 1.000, visits 1, value 1.000, answer 14 #### 14",
        "wrongQ 0.000, visits 1, value 0.000, answer 13 #### <b>13</b>",
    ]
    assert seen["whole"].startswith("12 + 2\nso ")
    assert seen["fractions"] == 2  # both trees hold the step
    assert seen["after"] == 8
    assert "ZeroDivisionError" in seen["error"]
    assert seen["folded"] == 2
    assert seen["cards"] == 2
    assert seen["values"] == ["0.500", "1.000", "0.500", "0.000"]
    assert seen["search"] == 1
