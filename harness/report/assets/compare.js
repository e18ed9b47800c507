const CHANGES = {
  changed: (a, b) => a !== b,
  "only the second is right": (a, b) => b > a,
  "only the first is right": (a, b) => a > b,
  "both are right": (a, b) => a === b && a > 0,
  "both are wrong": (a, b) => a === b && a === 0,
  all: () => true,
};
const testOf = (a, b) => DATA.tests.find((test) => (test.first === a && test.second === b) || (test.first === b && test.second === a));

/** What a test says of `a` as the first and `b` as the second, whichever way it was made. */
function turned(test, a) {
  if (!test || test.difference === undefined || test.first === a) return test;
  return { ...test, difference: -test.difference, low: -test.high, high: -test.low };
}

/** In words, whether a difference is sure; `p` is adjusted where several are looked at. */
function verdict(test, p) {
  if (test.difference === undefined) return ["plain", "not the same problems"];
  if (p < 0.05 && test.significant) return test.difference > 0 ? ["right", "better"] : ["wrong", "worse"];
  return ["plain", "not sure"];
}

async function compareView(given) {
  const pairs = tasks().filter((task) => ofTask(task).length > 1);
  if (!pairs.length) return [el("p", { class: "soft" }, "Two evaluations of one task can be compared here; the page holds no such two.")];
  const task = pairs.includes(given.task) ? given.task : pairs[0];
  const runs = ofTask(task), named = (name, other) => runs.find((run) => run.name === name) || runs.find((run) => run !== other);
  const first = named(given.a), second = given.b !== given.a ? named(given.b, first) : named(undefined, first);
  const [a, b] = [first, second].map((run) => setOf(DATA.evaluations.indexOf(run)));
  const [mine, other] = await Promise.all([indexOf(a), indexOf(b)]);
  const shared = mine.id.flatMap((id, i) => (other.place.has(id) ? [[i, other.place.get(id)]] : []));
  const state = { kind: "changed", ...given, task, a: first.name, b: second.name };
  const test = turned(testOf(a.evaluation, b.evaluation), a.evaluation);
  const adjusted = test?.p_value_holm[test.models.indexOf(first.model)] ?? null;
  const counts = Object.fromEntries(Object.entries(CHANGES).map(([name, keep]) => [name, shared.filter(([i, j]) => keep(mine.share[i], other.share[j])).length]));
  const detail = el("div"), partner = new Map(shared);
  const list = longList((i) => el("button", { "aria-current": mine.id[i] === state.problem, onclick: () => choose(i) }, rightTag(mine, i), "→ ", rightTag(other, partner.get(i)), mine.id[i], el("span", { class: "excerpt" }, mine.question[i])));
  let found = [];

  async function choose(i) {
    state.problem = mine.id[i];
    moved("Compare", state);
    list.show(i);
    await draw();
  }

  async function draw() {
    const place = mine.place.get(state.problem);
    if (place === undefined || !partner.has(place)) return detail.replaceChildren(el("p", { class: "soft" }, "No such problem."));
    const [p, q] = await Promise.all([problemAt(a, place), problemAt(b, partner.get(place))]);
    const side = (set, run, each) => el("section", {}, el("h3", {}, run.model), cards(set, each, each.responses.map((r, number) => ({ ...r, number }))));
    detail.replaceChildren(el("div", { id: "problem" }, about(p), el("div", { class: "beside" }, side(a, first, p), side(b, second, q))));
  }

  async function filter() {
    const keep = CHANGES[state.kind] || CHANGES.changed;
    found = shared.filter(([i, j]) => keep(mine.share[i], other.share[j])).map(([i]) => i);
    found.sort((x, y) => Math.abs(mine.share[y] - other.share[partner.get(y)]) - Math.abs(mine.share[x] - other.share[partner.get(x)]) || x - y);
    if (state.problem === undefined || (state.kind !== given.kind && !found.some((i) => mine.id[i] === state.problem))) state.problem = found.length ? mine.id[found[0]] : undefined;
    list.fill(found);
    if (state.problem !== undefined) list.show(mine.place.get(state.problem));
    await draw();
  }

  const go = (changes) => show("Compare", { task, a: first.name, b: second.name, kind: state.kind, ...changes });
  const names = runs.map((run) => [run.name]);
  const content = [
    el("div", { class: "controls" },
      choice("task", "task", pairs.map((each) => [each]), task, (value) => show("Compare", { task: value })),
      choice("a", "first", names, first.name, (value) => go({ a: value })), "→", choice("b", "second", names, second.name, (value) => go({ b: value })),
      el("button", { id: "swap", onclick: () => go({ a: second.name, b: first.name }) }, "swap")),
    el("p", { id: "said" }, test ? test.sentence : "No test was made of these two: the page has too many runs to test every two; name these alone, or use `harness compare`."),
    adjusted === null || adjusted === test.p_value ? null : el("p", { id: "adjusted", class: "soft" }, `Beside the other tests against ${first.model} (Holm): p = ${digits(adjusted)}, ${adjusted < 0.05 ? "still below 0.05" : "so it may be chance"}.`),
    el("div", { class: "chips" }, Object.entries(counts).map(([name, count]) => el("button", { "aria-pressed": name === state.kind, onclick: () => go({ kind: name }) }, el("b", {}, String(count)), ` ${name}`))),
    el("div", { class: "browser" }, list, detail),
  ];
  return Object.assign(content.filter(Boolean), { placed: filter });
}
