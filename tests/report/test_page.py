"""The page in headless Chromium: it opens from disk, filters, shows samples, and logs no error."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree.ElementTree import fromstring

import pytest

from harness.commands.report import report
from harness.errors import InputError
from harness.report.formulas import ATTRIBUTES, TAGS, Formulas
from harness.search.tree import SearchTree, TreeNode
from harness.store import write_rows
from harness.types import Problem
from tests.report.hostile import PAYLOADS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")

CATCH = """<script>
const problems = [];
addEventListener("error", (event) => problems.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => problems.push("blocked " + event.blockedURI));
const said = console.error; console.error = (...words) => { problems.push(words.join(" ")); said(...words); };
</script>"""


def digest(script: str) -> str:
    """How a content security policy names a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def browse(page, tmp_path, script: str, address: str = ""):
    """Run a script in the opened page once it shows something; what it returns as JSON, and no error may be seen."""
    text = page.read_text(encoding="utf-8")
    driver = (
        "<script>(async () => { let seen;"
        "try { await ready; seen = await (async () => {" + script + "})(); } catch (e) { problems.push(String(e)); }"
        "document.body.replaceChildren(Object.assign(document.createElement('pre'), "
        "{id: 'outcome', textContent: JSON.stringify({seen, problems})}));})();</script>"
    )
    allowed = " ".join(f"'{digest(added[len('<script>') : -len('</script>')])}'" for added in (CATCH, driver))
    text = text.replace("script-src ", f"script-src {allowed} ").replace("<body>", f"<body>{CATCH}")
    copy = tmp_path / "driven.html"
    copy.write_text(text.replace("</body>", f"{driver}</body>"), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    # The budget is of the page's own clock, which stands still while it works: nothing here depends on the machine's.
    command += ["--virtual-time-budget=60000", "--window-size=1400,1000", "--dump-dom", copy.as_uri() + address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
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


class Markup(HTMLParser):
    """The elements of a page as a browser would start them, the attributes of each, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts.append(data)


def test_only_the_one_script_of_the_page_may_run(page):
    markup = Markup(page.read_text(encoding="utf-8"))
    [policy] = [
        attributes["content"]
        for _, attributes in markup.elements
        if "content" in attributes and "http-equiv" in attributes
    ]
    [scripts] = re.findall(r"script-src ([^;]*);", policy)
    *data, code = markup.scripts  # the data come first, as text and JSON, which no browser runs
    kinds = [attributes.get("type") for tag, attributes in markup.elements if tag == "script"]
    assert kinds == ["text/plain"] * (len(data) - 1) + ["application/json", None]
    assert scripts == f"'{digest(code)}'"
    assert "base-uri 'none'" in policy
    assert not [name for _, attributes in markup.elements for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_formula_holds_anything_but_mathml(payload):
    for mathml in Formulas().of([payload]).values():
        for tag, attributes in Markup(mathml).elements:
            assert tag in TAGS
            assert attributes.keys() <= ATTRIBUTES
        fromstring(mathml)


def test_formulas_with_markup_in_their_text_are_still_shown():
    [mathml] = Formulas().of([r"$\text{if } a<b \text{ <b> \& so}$"]).values()
    assert "".join(fromstring(mathml).itertext()).replace("\xa0", " ") == "if a<b <b> \\& so"


@needs_chromium
def test_no_payload_runs_in_the_page(tmp_path):
    texts = PAYLOADS[:-1]  # the last holds control characters, which no file of problems does
    nodes = tuple(TreeNode(0 if i else -1, text, "open") for i, text in enumerate(("", *texts)))
    write_rows(tmp_path / "hostile.jsonl", [SearchTree(Problem("hostile", " ".join(texts), "1"), nodes)])
    assert report([tmp_path / "hostile.jsonl"], tmp_path / "hostile.html") == 0
    seen = browse(
        tmp_path / "hostile.html",
        tmp_path,
        """
        await show("Samples");
        document.getElementById("unfold").click();
        for (const node of document.querySelectorAll("#view *")) {
            node.dispatchEvent(new Event("mouseover", {bubbles: true}));
            if (!node.closest("summary, button")) node.dispatchEvent(new Event("click"));
        }
        for (const node of document.querySelectorAll("#view a[href^='#Samples']")) node.remove();  // the page's own
        const nodes = [...document.querySelectorAll("#view *")];
        const names = nodes.map((node) => node.localName);
        const risky = ["img", "script", "iframe", "svg", "a", "style", "object", "embed", "link", "meta"];
        return {
            ran: window.ran ?? null,
            risky: names.filter((name) => risky.includes(name)),
            maths: names.filter((name) => name === "math").length,
            handlers: nodes.flatMap((node) => node.getAttributeNames()).filter((name) => name.startsWith("on")),
        };
        """,
    )
    assert seen["ran"] is None
    assert seen["risky"] == seen["handlers"] == []
    assert seen["maths"] >= 20


def test_options_are_checked(runs, tmp_path):
    with pytest.raises(InputError, match="no run given"):
        report([], tmp_path / "x.html")
    with pytest.raises(InputError, match="max_problems is -1"):
        report([runs], tmp_path / "x.html", max_problems=-1)
    with pytest.raises(InputError, match="every is 0"):
        report([runs], tmp_path / "x.html", every=0)


@needs_chromium
def test_every_tab_opens_without_an_error(page, tmp_path):
    seen = browse(
        page,
        tmp_path,
        """
        const tabs = [...document.querySelectorAll("[role=tab]")].map((tab) => tab.textContent);
        const sizes = {};
        for (const tab of tabs) {
            await show(tab);
            const view = document.getElementById("view");
            sizes[tab] = [view.textContent.length > 40, view.querySelectorAll("svg").length];
        }
        await show("Results");
        const charts = [...document.querySelectorAll("#view svg")].map((chart) => chart.getAttribute("aria-label"));
        return {tabs, sizes, charts, title: document.title, heading: document.querySelector("h1").textContent};
        """,
    )
    assert seen["tabs"] == ["Overview", "Results", "Breakdown", "Compare", "Training", "Samples"]
    assert all(full for full, _ in seen["sizes"].values())
    assert seen["charts"] == ["pass@k", "accuracy by budget of tokens"]
    assert seen["sizes"]["Training"][1] >= 4
    assert seen["title"] == seen["heading"] == "Two <runs>"


@needs_chromium
def test_samples_are_filtered_searched_and_shown_with_formulas(page, tmp_path):
    seen = browse(
        page,
        tmp_path,
        """
        await show("Samples");
        const count = () => Number(document.getElementById("count").textContent.split(" of ")[0]);
        const choose = async (id, value, wanted) => {
            const box = document.getElementById(id);
            box.value = value;
            box.dispatchEvent(new Event(box.tagName === "SELECT" ? "change" : "input"));
            await new Promise((done) => setTimeout(done, 500));
        };
        const found = {all: count()};
        for (const kind of ["right", "no answer", "disagreement", "truncated"]) {
            await choose("kind", kind);
            found[kind] = count();
        }
        await choose("kind", "no answer");
        found.shown = document.querySelectorAll(".response").length;
        found.reason = document.querySelector(".reason").textContent;
        found.images = document.querySelectorAll("#view img").length;
        await choose("kind", "all");
        await choose("level", "1");
        found.level = count();
        await choose("level", "");
        document.getElementById("find").focus();
        await choose("find", "11 + 1");
        found.search = count();
        found.focused = document.activeElement.id;
        found.marked = document.querySelector("#problem mark").textContent;
        found.fractions = document.querySelectorAll("#problem mfrac").length;
        await choose("find", "\\\\frac{1}{2}$ step");
        found.source = count();
        await choose("find", "");
        await choose("order", "hardest first");
        found.hardest = document.querySelector(".list button .tag").textContent;
        return found;
        """,
    )
    assert seen["all"] == 12
    assert seen["no answer"] == 1
    assert seen["shown"] == 4
    assert seen["reason"] == 'no final answer found by the rules "gsm8k"'
    assert seen["truncated"] == 0
    assert 0 < seen["disagreement"] <= seen["right"] <= 11
    assert seen["images"] == 0
    assert (seen["search"], seen["focused"], seen["marked"]) == (1, "find", "11 + 1")
    assert seen["fractions"] == 4
    assert (seen["level"], seen["hardest"]) == (4, "0/4")
    assert seen["source"] == 11  # a search is for what stands in the text, backslashes too


@needs_chromium
def test_the_chosen_cell_is_marked_and_trees_unfold(page, tmp_path):
    seen = browse(
        page,
        tmp_path,
        """
        await show("Training");
        const chosen = [...document.querySelectorAll("td.chosen")].map((cell) => cell.textContent);
        await show("Samples", {set: "train, iteration 2"});
        const values = [...document.querySelectorAll(".step .value")].slice(0, 2).map((cell) => cell.textContent);
        document.getElementById("tree").click();
        await new Promise((done) => setTimeout(done, 500));
        const nodes = [...document.querySelectorAll(".tree summary")].map((node) => node.textContent);
        return {chosen, values, nodes, name: document.getElementById("set").value};
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
        await show("Samples", {set: "trees.jsonl (search trees)"});
        const set = document.getElementById("set");
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
        const pause = () => new Promise((done) => setTimeout(done, 500));
        document.getElementById("tree").click();
        await pause();
        found.cards = document.querySelectorAll(".response").length;
        found.values = [...document.querySelectorAll(".step .value")].map((cell) => cell.textContent);
        const find = document.getElementById("find");
        find.value = "1 / 0";
        find.dispatchEvent(new Event("input"));
        await pause();
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
