/** Text that is being searched for, in small letters; it is marked wherever samples are shown. */
let finding = "";

/** Which problems a filter lets through, by their line in the index. */
const KINDS = {
  all: () => true,
  right: (lines, i) => lines.verdicts[i].includes("1"),
  wrong: (lines, i) => /[^1]/.test(lines.verdicts[i]),
  "never right": (lines, i) => !lines.verdicts[i].includes("1"),
  truncated: (lines, i) => lines.cut[i].includes("1"),
  "no answer": (lines, i) => lines.verdicts[i].includes("n"),
  unreadable: (lines, i) => /[pt]/.test(lines.verdicts[i]),
};
const RESPONSE_KINDS = { right: (r) => r.correct, wrong: (r) => !r.correct, "never right": (r) => !r.correct, truncated: (r) => r.truncated, "no answer": (r) => r.status === "no_answer", unreadable: (r) => r.status === "parse_failure" || r.status === "timeout" };
const ORDERS = { "as in the file": () => 0, "hardest first": (lines, a, b) => lines.share[a] - lines.share[b], "easiest first": (lines, a, b) => lines.share[b] - lines.share[a], random: (lines, a, b) => scramble(lines.id[a]) - scramble(lines.id[b]) };
const SHOWN_RESPONSES = 16;

/** Ids of the problems of a task that some responses, of any run, get right and others wrong. */
async function disagreements(set) {
  const same = set.task === undefined ? [set] : SETS.filter((each) => each.task === set.task);
  const right = new Set(), wrong = new Set();
  for (const lines of await Promise.all(same.map(indexOf))) {
    lines.id.forEach((id, i) => {
      if (KINDS.right(lines, i)) right.add(id);
      if (KINDS.wrong(lines, i)) wrong.add(id);
    });
  }
  return right.intersection ? right.intersection(wrong) : new Set([...right].filter((id) => wrong.has(id)));
}

/** The verdict that an index line tells, in short. */
const rightTag = (lines, i) => el("span", { class: `tag ${lines.right[i] ? "right" : "wrong"}` }, `${lines.right[i]}/${lines.verdicts[i].length}`);

function choice(id, label, values, chosen, change) {
  return el("select", { id, "aria-label": label, onchange: (event) => change(event.target.value) }, values.map(([value, title]) => el("option", { value, selected: String(value) === String(chosen) }, title ?? value)));
}

async function samplesView(given) {
  if (!SETS.length) return [el("p", { class: "soft" }, "No samples here.")];
  const set = setNamed(given.set), lines = await indexOf(set);
  const state = { kind: "all", order: "as in the file", find: "", level: "", subject: "", ...given, set: set.name };
  let asTree = Boolean(set.trees), found = [], turn = 0;
  const count = el("span", { id: "count", class: "soft" }), detail = el("div");
  const list = longList((i) => el("button", { "aria-current": lines.id[i] === state.problem, onclick: () => choose(i) }, rightTag(lines, i), lines.id[i], el("span", { class: "excerpt" }, lines.question[i])));
  const note = () => moved("Samples", { ...state, kind: state.kind === "all" ? "" : state.kind, order: state.order === "as in the file" ? "" : state.order });

  async function choose(i) {
    state.problem = lines.id[i];
    delete state.response;
    note();
    list.show(i);
    await draw();
  }

  async function draw() {
    const place = lines.place.get(state.problem), mine = turn;
    if (place === undefined) return detail.replaceChildren(el("p", { class: "soft" }, "Nothing matches."));
    const p = await problemAt(set, place);
    if (mine !== turn) return;
    const at = found.indexOf(place), step = (to) => el("button", { disabled: found[to] === undefined, onclick: () => choose(found[to]) }, to < at ? "← previous" : "next →");
    detail.replaceChildren(el("div", { class: "controls" }, step(at - 1), step(at + 1), comparisons(set, p.id)), problemView(set, p, state, asTree));
    const linked = state.response !== undefined && document.getElementById(`response-${state.response}`);
    if (linked) linked.scrollIntoView({ block: "center" });
  }

  async function filter() {
    const mine = ++turn;
    finding = state.find;
    const split = state.kind === "disagreement" ? await disagreements(set) : null;
    const passes = split ? (_, i) => split.has(lines.id[i]) : KINDS[state.kind] || KINDS.all;
    let wanted = lines.id.map((_, i) => i).filter((i) => passes(lines, i) && (!state.level || lines.level[i] === state.level) && (!state.subject || lines.subject[i] === state.subject));
    const order = ORDERS[state.order] || ORDERS["as in the file"];
    wanted.sort((a, b) => order(lines, a, b) || a - b);
    if (state.find) {
      let shown = 0;
      wanted = await search(set, wanted, state.find, (done, hits) => {
        if (mine !== turn) return false;
        count.textContent = `${hits.size} found in ${done} of ${lines.id.length} problems …`;
        if (hits.size > shown) {
          found = wanted.filter((i) => hits.has(i));
          list.fill(found, !shown);
          shown = hits.size;
        }
        return true;
      });
    }
    if (mine !== turn || !wanted) return;
    found = wanted;
    const part = set.total > set.kept ? ` (the page holds ${{ random: "a random", hardest: "the hardest", first: "the first" }[set.trees || set.task ? DATA.pick.pick : "random"]} ${set.kept} of ${set.total})` : "";
    count.textContent = `${found.length} of ${set.kept} problems${part}`;
    if (!found.some((i) => lines.id[i] === state.problem)) state.problem = found.length ? lines.id[found[0]] : undefined;
    list.fill(found);
    if (state.problem !== undefined) list.show(lines.place.get(state.problem));
    await draw();
  }

  let waiting;
  const change = (key) => (value) => {
    state[key] = value;
    delete state.response;
    note();
    return filter();
  };
  const values = (column) => [["", `every ${column}`], ...[...new Set(lines[column])].filter(Boolean).sort((a, b) => a.localeCompare(b, "en", { numeric: true })).map((value) => [value])];
  const some = (column) => new Set(lines[column]).size > 1;
  const controls = el("div", { class: "controls" },
    choice("set", "run", SETS.map((each) => [each.name]), set.name, (name) => show("Samples", { set: name, problem: state.problem, find: state.find, kind: state.kind })),
    choice("kind", "filter", [...Object.keys(KINDS), "disagreement"].map((kind) => [kind]), state.kind, change("kind")),
    some("level") ? choice("level", "level", values("level"), state.level, change("level")) : null,
    some("subject") ? choice("subject", "subject", values("subject"), state.subject, change("subject")) : null,
    choice("order", "order", Object.keys(ORDERS).map((order) => [order]), state.order, change("order")),
    el("input", { id: "find", type: "search", "aria-label": "search", placeholder: "search questions and responses", value: state.find, oninput: (event) => { clearTimeout(waiting); waiting = setTimeout(() => change("find")(event.target.value.toLowerCase()), lines.id.length > 2000 ? 250 : 0); } }),
    el("label", {}, el("input", { id: "tree", type: "checkbox", checked: asTree, onchange: (event) => { asTree = event.target.checked; draw(); } }), " as a tree"),
    count);
  return Object.assign([controls, el("div", { class: "browser" }, list, detail)], { placed: filter });
}

/** Links to the same problem beside each other run of the task. */
function comparisons(set, id) {
  const others = set.task === undefined ? [] : SETS.filter((each) => each.task === set.task && each !== set);
  return others.slice(0, 6).map((other) => el("a", { href: address("Compare", { a: DATA.evaluations[set.evaluation].name, b: DATA.evaluations[other.evaluation].name, task: set.task, problem: id }) }, `beside ${DATA.evaluations[other.evaluation].model}`));
}

function about(p) {
  const facts = [p.source, p.subject, p.level && `level ${p.level}`].filter(Boolean).join(" · ");
  return [
    el("div", { class: "soft" }, `${p.id} ${facts}`),
    el("div", { class: "text" }, rich(p.question, finding)),
    p.answer ? el("p", {}, "gold answer: ", el("b", {}, p.answer)) : null,
    p.solution ? el("details", {}, el("summary", { class: "soft" }, "worked solution"), el("div", { class: "text" }, rich(p.solution))) : null,
  ];
}

function problemView(set, p, state, asTree) {
  const wanted = RESPONSE_KINDS[state.kind] || (() => true);
  const rows = p.responses.map((r, number) => ({ ...r, number })).filter((r) => wanted(r) || String(r.number) === state.response);
  return el("div", { id: "problem" }, about(p), asTree ? (p.trees ? searchTrees(p.trees) : treeView(rows)) : cards(set, p, rows, state.response));
}

/** Responses as cards: the first ones, the others on demand. */
function cards(set, p, rows, linked) {
  const most = Math.max(SHOWN_RESPONSES, rows.findIndex((r) => String(r.number) === linked) + 1);
  const draw = (part) => part.map((r) => responseView(set, p, r, String(r.number) === linked));
  const holder = el("div", {}, draw(rows.slice(0, most)));
  if (rows.length > most) {
    const more = el("button", { class: "more", onclick: () => more.replaceWith(...draw(rows.slice(most))) }, `${rows.length - most} more responses`);
    holder.append(more);
  }
  return holder;
}

/** In a sentence, what came of a response. */
function reason(set, p, r) {
  const rule = set.protocol?.answer_protocol?.name ?? set.protocol?.answer_protocol;
  const cut = r.truncated ? `cut off after ${r.tokens} tokens${r.tokens === set.limit ? ", the limit" : ""}` : "";
  if (r.correct) return `right: ${r.answer ?? "it passes"}${cut && `, though ${cut}`}`;
  if (r.status === "no_answer") return `no final answer found${rule ? ` by the rules "${rule}"` : ""}${cut && `: ${cut}`}`;
  if (r.status === "parse_failure") return `the answer "${r.answer}" cannot be read${p.answer && `; the gold is ${p.answer}`}`;
  if (r.status === "timeout") return `comparing "${r.answer}" with the gold ${p.answer} took too long`;
  return `${p.answer ? `answered ${r.answer ?? "nothing"}, the gold is ${p.answer}` : "it fails the tests or instructions"}${cut && `; ${cut}`}`;
}

function tags(r) {
  return [
    el("span", { class: `tag ${r.correct ? "right" : "wrong"}` }, r.correct ? "right" : "wrong"),
    r.status !== "ok" ? el("span", { class: "tag warn" }, r.status.replace("_", " ")) : null,
    r.truncated ? el("span", { class: "tag warn" }, "truncated") : null,
    el("span", { class: "soft" }, `answer ${r.answer ?? "none"}, reward ${digits(r.reward)}, ${r.tokens} tokens`),
  ];
}

function responseView(set, p, r, linked) {
  const valued = r.values.length === r.steps.length && r.values.length > 0;
  const body = valued
    ? r.steps.map((step, i) => el("div", { class: "step" }, el("div", { class: "text" }, rich(step.replace(/\n+$/, ""), finding)), el("span", { class: "value" }, digits(r.values[i]))))
    : [el("div", { class: "text" }, rich(r.text, finding))];
  const link = el("a", { class: "link", title: "link to this response", href: address("Samples", { set: set.name, problem: p.id, response: r.number }) }, `#${r.number + 1}`);
  return el("div", { id: `response-${r.number}`, class: `card response ${r.correct ? "right" : "wrong"}${linked ? " linked" : ""}` }, link, tags(r), el("p", { class: "reason" }, reason(set, p, r)), ...body);
}

/** The responses as a prefix tree of their steps, so that a search's branches can be unfolded. */
function treeView(responses) {
  const root = { children: new Map(), responses: [] };
  for (const r of responses) {
    let node = root;
    r.steps.forEach((step, i) => {
      if (!node.children.has(step)) node.children.set(step, { step, value: r.values[i], children: new Map(), responses: [], right: 0, all: 0 });
      node = node.children.get(step);
      node.all += 1;
      node.right += r.correct ? 1 : 0;
    });
    node.responses.push(r);
  }
  const draw = (node, depth) => [...node.children.values()].sort((a, b) => b.all - a.all).map((child) =>
    el("details", { class: "node", open: depth < 2 },
      el("summary", {}, el("span", { class: `tag ${child.right ? "right" : "wrong"}` }, `${child.right}/${child.all}`), child.value === undefined ? null : el("span", { class: "tag plain" }, digits(child.value)), ...rich(child.step.trim(), finding)),
      draw(child, depth + 1), child.responses.map((r) => el("div", {}, tags(r)))));
  return el("div", { class: "tree" }, draw(root, 0));
}
