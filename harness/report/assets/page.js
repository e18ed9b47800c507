"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#0b62a8", "#d1660a", "#1a7f42", "#8e44ad", "#b3261e", "#00838f", "#7a5c00", "#5b6570"];
// The same expression as FORMULA in formulas.py.
const FORMULA = /\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|(?<![\\$\w])\$(?![\s$])([^$\n]{1,300}?)(?<![\s\\])\$/g;
const PAGE_SIZE = 300;

/** An element with attributes ("on..." are listeners) and children (elements or strings). */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-")) node.setAttribute(name, String(value));
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const digits = (value) => (value === null || value === undefined ? "–" : Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(3));

/** Text with its formulas as MathML where the page holds them, and the parts that match `find` marked. */
function rich(text, find) {
  const parts = [];
  let last = 0;
  for (const match of text.matchAll(FORMULA)) {
    const tex = (match[1] ?? match[2] ?? match[3] ?? match[4]).trim();
    const mathml = DATA.formulas[tex];
    if (!mathml) continue;
    parts.push(...marked(text.slice(last, match.index), find));
    const holder = el("span", { title: tex });
    holder.innerHTML = mathml; // made by the converter, never by a model
    parts.push(holder);
    last = match.index + match[0].length;
  }
  parts.push(...marked(text.slice(last), find));
  return parts;
}

function marked(text, find) {
  if (!find) return [text];
  const parts = [], lower = text.toLowerCase();
  let last = 0;
  for (let at = lower.indexOf(find); at >= 0; at = lower.indexOf(find, last)) {
    parts.push(text.slice(last, at), el("mark", {}, text.slice(at, at + find.length)));
    last = at + find.length;
  }
  return [...parts, text.slice(last)];
}

/** A line chart; series are {name, points: [{x, y, low, high}]}. */
function lineChart(title, series, { log = false, xLabel = "", width = 380, height = 230 } = {}) {
  series = series.map((s) => ({ ...s, points: s.points.filter((p) => p.y !== null && p.y !== undefined) })).filter((s) => s.points.length);
  const points = series.flatMap((s) => s.points);
  if (!points.length) return null;
  const left = 50, right = 12, top = 28, bottom = 34 + 16 * Math.ceil(series.length / 2);
  const scale = log ? Math.log2 : (x) => x;
  const xs = points.map((p) => scale(p.x)), ys = points.flatMap((p) => [p.low ?? p.y, p.high ?? p.y, p.y]);
  const x0 = Math.min(...xs), x1 = Math.max(...xs);
  let y0 = Math.min(...ys), y1 = Math.max(...ys);
  if (y0 >= 0 && y0 < 0.35 * y1) y0 = 0;
  if (y1 === y0) [y0, y1] = [y0 - 0.5, y1 + 0.5];
  const px = (x) => left + ((scale(x) - x0) / (x1 - x0 || 1)) * (width - left - right);
  const py = (y) => height - bottom - ((y - y0) / (y1 - y0)) * (height - top - bottom);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  const label = (x, y, text, extra = {}) => root.append(svg("text", { x, y, ...extra }, text));
  label(left, 15, title, { class: "title" });
  for (let i = 0; i <= 4; i++) {
    const y = y0 + (i / 4) * (y1 - y0);
    root.append(svg("line", { x1: left, x2: width - right, y1: py(y), y2: py(y), stroke: "var(--line)" }));
    label(left - 6, py(y) + 4, digits(y), { "text-anchor": "end" });
  }
  const ticks = [...new Set(points.map((p) => p.x))].sort((a, b) => a - b);
  const every = Math.ceil(ticks.length / 8);
  ticks.filter((_, i) => i % every === 0).forEach((x) => label(px(x), height - bottom + 15, String(x), { "text-anchor": "middle" }));
  label((left + width - right) / 2, height - bottom + 29, xLabel, { "text-anchor": "middle" });
  series.forEach((s, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const line = [...s.points].sort((a, b) => a.x - b.x);
    const band = line.filter((p) => p.low !== null && p.low !== undefined && p.high !== null && p.high !== undefined);
    if (band.length > 1) {
      const outline = [...band.map((p) => `${px(p.x)},${py(p.high)}`), ...[...band].reverse().map((p) => `${px(p.x)},${py(p.low)}`)];
      root.append(svg("polygon", { points: outline.join(" "), fill: colour, opacity: 0.14 }));
    } else {
      band.forEach((p) => root.append(svg("line", { x1: px(p.x), x2: px(p.x), y1: py(p.low), y2: py(p.high), stroke: colour })));
    }
    root.append(svg("polyline", { points: line.map((p) => `${px(p.x)},${py(p.y)}`).join(" "), fill: "none", stroke: colour, "stroke-width": 2 }));
    if (line.length <= 40) {
      line.forEach((p) => root.append(svg("circle", { cx: px(p.x), cy: py(p.y), r: 3, fill: colour }, svg("title", {}, `${s.name}: ${p.x} → ${digits(p.y)}`))));
    }
    const x = left + (i % 2) * ((width - left) / 2), y = height - bottom + 46 + 16 * Math.floor(i / 2);
    root.append(svg("rect", { x, y: y - 8, width: 10, height: 10, fill: colour }));
    label(x + 14, y + 1, s.name);
  });
  return root;
}

function interval(metric) {
  if (!metric || metric.value === null) return "–";
  return [el("b", {}, digits(metric.value)), el("span", { class: "soft" }, ` [${digits(metric.low)}, ${digits(metric.high)}]`)];
}

function table(head, rows) {
  return el("table", {}, el("thead", {}, el("tr", {}, head.map((cell) => el("th", {}, cell)))), el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))))));
}

const tasks = () => [...new Set(DATA.evaluations.map((e) => e.results.task))];
const ofTask = (task) => DATA.evaluations.filter((e) => e.results.task === task);

function resultsView() {
  const parts = [];
  for (const task of tasks()) {
    const runs = ofTask(task);
    const names = [...new Set(runs.flatMap((run) => Object.keys(run.results.metrics)))];
    parts.push(el("h2", {}, `${task}`));
    const facts = runs.map((run) => {
      const r = run.results, c = r.counts;
      return el("div", { class: "soft" }, `${run.name}: ${c.problems} problems, ${c.samples} samples, protocol ${run.protocol.name}, grader ${r.grader.name}, ${r.engine}, weights ${r.hashes.weights}; no answer ${c.no_answer}, unreadable ${c.parse_failure}, timed out ${c.timeout}, truncated ${c.truncated}`);
    });
    const curve = lineChart("pass@k", runs.filter((run) => run.pass_curve.length > 1).map((run) => ({ name: run.name, points: run.pass_curve })), { log: true, xLabel: "k" });
    const rows = names.map((name) => [name, ...runs.map((run) => interval(run.results.metrics[name]))]);
    parts.push(...facts, el("div", { class: "row" }, table(["metric", ...runs.map((run) => run.name)], rows), curve));
  }
  return parts;
}

function breakdownView() {
  const parts = [];
  for (const task of tasks()) {
    const runs = ofTask(task);
    const fields = [...new Set(runs.flatMap((run) => Object.keys(run.results.by || {})))];
    for (const field of fields) {
      const values = [...new Set(runs.flatMap((run) => Object.keys((run.results.by || {})[field] || {})))];
      const rows = values.map((value) => {
        const cells = runs.map((run) => ((run.results.by || {})[field] || {})[value]);
        return [value, String((cells.find(Boolean) || {}).problems ?? ""), ...cells.map(interval)];
      });
      parts.push(el("h2", {}, `${task} by ${field}`), table([field, "problems", ...runs.map((run) => run.name)], rows));
    }
  }
  return parts.length ? parts : [el("p", { class: "soft" }, "No task here has several levels, subjects or sources.")];
}

/** Everything that has samples: evaluations and iterations. */
function sampleSets() {
  const sets = DATA.evaluations.map((e) => ({ name: `${e.name} (${e.results.task})`, problems: e.problems, total: e.num_problems }));
  for (const training of DATA.trainings) {
    for (const each of training.iterations) {
      if (each.problems.length) sets.push({ name: `${training.name}, iteration ${each.iteration}`, problems: each.problems, total: each.num_problems });
    }
  }
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
const browser = { set: 0, kind: "all", find: "", chosen: null, tree: false };

const contains = (p, find) => !find || `${p.id}\n${p.question}\n${p.answer}`.toLowerCase().includes(find) || p.responses.some((r) => r.steps.join("").toLowerCase().includes(find));

function samplesView() {
  const sets = sampleSets();
  if (!sets.length) return [el("p", { class: "soft" }, "No samples here.")];
  const set = sets[browser.set];
  const found = set.problems.filter((p) => KINDS[browser.kind](p) && contains(p, browser.find));
  const chosen = found.find((p) => p.id === browser.chosen) || found[0];
  const change = (key, read) => (event) => { browser[key] = read(event.target); show("Samples", key); };
  const controls = el("div", { class: "controls" },
    el("select", { id: "set", "aria-label": "run", onchange: change("set", (t) => Number(t.value)) }, sets.map((each, i) => el("option", { value: i, selected: i === browser.set }, each.name))),
    el("select", { id: "kind", "aria-label": "filter", onchange: change("kind", (t) => t.value) }, Object.keys(KINDS).map((kind) => el("option", { value: kind, selected: kind === browser.kind }, kind))),
    el("input", { id: "find", type: "search", placeholder: "search questions and responses", value: browser.find, oninput: change("find", (t) => t.value.toLowerCase()) }),
    el("label", {}, el("input", { id: "tree", type: "checkbox", checked: browser.tree, onchange: change("tree", (t) => t.checked) }), " as a tree of steps"),
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
    browser.tree ? treeView(responses) : responses.map(responseView));
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

function gridView(each) {
  const g = each.grid;
  const all = g.scores.flat().filter((v) => v !== null), low = Math.min(...all), high = Math.max(...all);
  const rows = g.temperatures.map((t, i) => el("tr", {}, el("th", {}, String(t)), g.thresholds.map((threshold, j) => {
    const score = g.scores[i][j], chosen = g.chosen && g.chosen.temperature === t && g.chosen.threshold === threshold;
    const share = score === null ? 0 : (score - low) / (high - low || 1);
    return el("td", { class: chosen ? "chosen" : "", title: `temperature ${t}, threshold ${threshold}`, style: `background: rgba(11, 98, 168, ${(0.08 + 0.62 * share).toFixed(3)})` }, digits(score));
  })));
  const found = g.chosen ? `chosen: temperature ${g.chosen.temperature}, threshold ${g.chosen.threshold}, balance score ${digits(g.balance_score)}` : "";
  return el("div", {}, el("div", {}, el("b", {}, `iteration ${each.iteration}`)), el("table", { class: "grid" },
    el("tr", {}, el("th", {}, "temperature \\ threshold"), g.thresholds.map((t) => el("th", {}, String(t)))), rows), el("div", { class: "soft" }, found));
}

const FIRST = ["eval/accuracy", "rollout/accuracy", "rollout/solved", "rollout/balance_score", "rollout/temperature", "rollout/threshold", "rollout/wrong_share", "rollout/distinct_correct", "train/loss"];

function trainingView() {
  const parts = [];
  for (const training of DATA.trainings) {
    const searched = training.iterations.filter((each) => each.grid), drawn = training.iterations.filter((each) => each.draws["pass@k"]);
    if (searched.length) {
      parts.push(el("h2", {}, `Exploration and exploitation: ${training.name}`), el("p", { class: "soft" }, "Balance score of each sampling setting on the probe problems; the outlined cell was chosen."), el("div", { class: "row" }, searched.map(gridView)));
    }
    if (drawn.length) {
      const kinds = [...new Set(drawn.flatMap((each) => Object.keys(each.draws)))];
      parts.push(el("h2", {}, `Samples of the iterations: ${training.name}`), el("div", { class: "row" },
        lineChart("pass@k of the rollouts", drawn.map((each) => ({ name: `iteration ${each.iteration}`, points: each.draws["pass@k"] })), { log: true, xLabel: "k" }),
        kinds.map((kind) => lineChart(`${kind} by iteration`, kIndex(drawn, kind), { xLabel: "iteration" })).filter(Boolean)));
    }
  }
  const names = [...new Set(DATA.trainings.flatMap((t) => Object.keys(t.curves)))].filter((name) => !/_(low|high)$/.test(name));
  const chart = (name) => lineChart(name, DATA.trainings.filter((t) => t.curves[name]).map((t) => {
    const at = (suffix, x) => ((t.curves[name + suffix] || []).find((p) => p[0] === x) || [])[1];
    return { name: t.name, points: t.curves[name].map(([x, y]) => ({ x, y, low: at("_low", x), high: at("_high", x) })) };
  }), { xLabel: /^(rollout|eval)\//.test(name) ? "iteration" : "step" });
  const first = FIRST.filter((name) => names.includes(name)), rest = names.filter((name) => !FIRST.includes(name));
  parts.push(el("h2", {}, "Curves"), el("div", { class: "row" }, first.map(chart).filter(Boolean)));
  if (rest.length) parts.push(el("details", {}, el("summary", {}, `${rest.length} more`), el("div", { class: "row" }, rest.map(chart).filter(Boolean))));
  return parts;
}

/** One series for each k, over iterations. */
function kIndex(iterations, kind) {
  const ks = [...new Set(iterations.flatMap((each) => (each.draws[kind] || []).map((p) => p.x)))];
  return ks.map((k) => ({ name: `k = ${k}`, points: iterations.map((each) => ({ ...((each.draws[kind] || []).find((p) => p.x === k) || { y: null }), x: each.iteration })) }));
}

const VIEWS = {};
if (DATA.evaluations.length) Object.assign(VIEWS, { Results: resultsView, Breakdown: breakdownView });
if (DATA.trainings.length) VIEWS.Training = trainingView;
VIEWS.Samples = samplesView;

function show(name, keep) {
  const view = document.getElementById("view");
  const caret = keep === "find" ? document.getElementById("find").selectionStart : null;
  document.getElementById("tabs").replaceChildren(...Object.keys(VIEWS).map((tab) => el("button", { role: "tab", "aria-selected": tab === name, onclick: () => show(tab) }, tab)));
  view.replaceChildren(...VIEWS[name]().filter(Boolean));
  if (caret !== null) {
    const box = document.getElementById("find");
    box.focus();
    box.setSelectionRange(caret, caret);
  }
}

show(Object.keys(VIEWS)[0]);
