/** Everything that has samples: evaluations, iterations and search trees. */
function sampleSets() {
  const sets = DATA.evaluations.map((e) => ({ name: `${e.name} (${e.results.task})`, problems: e.problems, total: e.num_problems }));
  for (const training of DATA.trainings) {
    for (const each of training.iterations) {
      if (each.problems.length) sets.push({ name: `${training.name}, iteration ${each.iteration}`, problems: each.problems, total: each.num_problems });
    }
  }
  for (const each of DATA.trees) sets.push({ name: `${each.name} (search trees)`, problems: each.problems.map(withLeaves), total: each.num_problems });
  return sets;
}

const KINDS = {
  all: () => true,
  right: (p) => p.responses.some((r) => r.correct),
  wrong: (p) => p.responses.some((r) => !r.correct),
  truncated: (p) => p.responses.some((r) => r.truncated),
  "no answer": (p) => p.responses.some((r) => r.status === "no_answer"),
  disagreement: (p) => p.disagreement ?? new Set(p.responses.map((r) => r.correct)).size === 2,
};
const RESPONSE_KINDS = { right: (r) => r.correct, wrong: (r) => !r.correct, truncated: (r) => r.truncated, "no answer": (r) => r.status === "no_answer" };
const browser = { set: 0, kind: "all", find: "", chosen: null, tree: null, sets: null };

const contains = (p, find) => !find || `${p.id}\n${p.question}\n${p.answer}`.toLowerCase().includes(find) || p.responses.some((r) => r.steps.join("").toLowerCase().includes(find)) || (p.trees || []).some((tree) => tree.some((node) => node.step.toLowerCase().includes(find)));

function samplesView() {
  const sets = (browser.sets ??= sampleSets());
  if (!sets.length) return [el("p", { class: "soft" }, "No samples here.")];
  const set = sets[browser.set];
  browser.tree ??= set.problems.some((p) => p.trees);
  const found = set.problems.filter((p) => KINDS[browser.kind](p) && contains(p, browser.find));
  const chosen = found.find((p) => p.id === browser.chosen) || found[0];
  const change = (key, read) => (event) => { browser[key] = read(event.target); show("Samples", key); };
  const controls = el("div", { class: "controls" },
    el("select", { id: "set", "aria-label": "run", onchange: (event) => { browser.tree = null; change("set", (t) => Number(t.value))(event); } }, sets.map((each, i) => el("option", { value: i, selected: i === browser.set }, each.name))),
    el("select", { id: "kind", "aria-label": "filter", onchange: change("kind", (t) => t.value) }, Object.keys(KINDS).map((kind) => el("option", { value: kind, selected: kind === browser.kind }, kind))),
    el("input", { id: "find", type: "search", placeholder: "search questions and responses", value: browser.find, oninput: change("find", (t) => t.value.toLowerCase()) }),
    el("label", {}, el("input", { id: "tree", type: "checkbox", checked: browser.tree, onchange: change("tree", (t) => t.checked) }), " as a tree"),
    el("span", { id: "count", class: "soft" }, `${found.length} of ${set.problems.length} problems` + (set.total > set.problems.length ? ` (the page holds the first ${set.problems.length} of ${set.total})` : "")));
  const list = el("div", { class: "list" }, found.slice(0, PAGE_SIZE).map((p) => {
    const right = p.responses.filter((r) => r.correct).length;
    return el("button", { "aria-current": p === chosen, onclick: () => { browser.chosen = p.id; show("Samples"); } },
      el("span", { class: `tag ${right ? "right" : "wrong"}` }, `${right}/${p.responses.length}`), p.id, el("span", { class: "excerpt" }, p.question));
  }));
  return [controls, el("div", { class: "browser" }, list, chosen ? problemView(chosen) : el("p", { class: "soft" }, "Nothing matches."))];
}

function problemView(p) {
  const facts = [p.source, p.subject, p.level && `level ${p.level}`].filter(Boolean).join(" · ");
  const wanted = RESPONSE_KINDS[browser.kind] || (() => true);
  const responses = p.responses.filter(wanted);
  return el("div", { id: "problem" }, el("div", { class: "soft" }, `${p.id} ${facts}`),
    el("div", { class: "text" }, rich(p.question, browser.find)),
    el("p", {}, "gold answer: ", el("b", {}, p.answer)),
    p.solution ? el("details", {}, el("summary", { class: "soft" }, "worked solution"), el("div", { class: "text" }, rich(p.solution))) : null,
    browser.tree ? (p.trees ? searchTrees(p.trees) : treeView(responses)) : responses.map(responseView));
}

function tags(r) {
  return [
    el("span", { class: `tag ${r.correct ? "right" : "wrong"}` }, r.correct ? "right" : "wrong"),
    r.status !== "ok" ? el("span", { class: "tag warn" }, r.status.replace("_", " ")) : null,
    r.truncated ? el("span", { class: "tag warn" }, "truncated") : null,
    el("span", { class: "soft" }, `answer ${r.answer ?? "none"}, reward ${digits(r.reward)}, ${r.tokens} tokens`),
  ];
}

function responseView(r) {
  const valued = r.values.length === r.steps.length && r.values.length > 0;
  const body = valued
    ? r.steps.map((step, i) => el("div", { class: "step" }, el("div", { class: "text" }, rich(step.replace(/\n+$/, ""), browser.find)), el("span", { class: "value" }, digits(r.values[i]))))
    : [el("div", { class: "text" }, rich(r.steps.join(""), browser.find))];
  return el("div", { class: `card response ${r.correct ? "right" : "wrong"}` }, tags(r), ...body);
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
      el("summary", {}, el("span", { class: `tag ${child.right ? "right" : "wrong"}` }, `${child.right}/${child.all}`), child.value === undefined ? null : el("span", { class: "tag plain" }, digits(child.value)), ...rich(child.step.trim(), browser.find)),
      draw(child, depth + 1), child.responses.map((r) => el("div", {}, tags(r)))));
  return el("div", { class: "tree" }, draw(root, 0));
}
