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
