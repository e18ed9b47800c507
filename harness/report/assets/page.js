function resultsView() {
  const found = [];
  for (const task of tasks()) {
    const runs = ofTask(task);
    const names = [...new Set(runs.flatMap((run) => Object.keys(run.results.metrics)))];
    found.push(el("h2", {}, `${task}`));
    const facts = runs.map((run) => {
      const r = run.results, c = r.counts;
      return el("div", { class: "soft" }, `${run.name}: ${c.problems} problems, ${c.samples} samples, protocol ${run.protocol.name}, grader ${r.grader.name}, ${r.engine}, weights ${r.hashes.weights}; no answer ${c.no_answer}, unreadable ${c.parse_failure}, timed out ${c.timeout}, truncated ${c.truncated}`);
    });
    const curve = lineChart("pass@k", runs.filter((run) => run.pass_curve.length > 1).map((run) => ({ name: run.name, points: run.pass_curve })), { log: true, xLabel: "k" });
    const rows = names.map((name) => [name, ...runs.map((run) => metricCell(run.results.metrics[name]))]);
    found.push(...facts, el("div", { class: "row" }, table(["metric", ...runs.map((run) => run.name)], rows, `${task}_metrics`), curve, budgetChart(runs)));
  }
  return found;
}

/** Accuracy against the tokens that a response may have, of the responses as they stand and with forced answers. */
function budgetChart(runs) {
  const series = runs.filter((run) => run.results.budgets).flatMap((run) => [["metrics", ""], ["forced", ", forced"]].map(([kind, word]) => ({
    name: `${run.name}${word}`,
    points: run.results.budgets.filter((point) => point[kind]).map((point) => ({ x: point.tokens, y: point[kind].accuracy.value, low: point[kind].accuracy.low, high: point[kind].accuracy.high })),
  })));
  return lineChart("accuracy by budget of tokens", series, { log: true, xLabel: "tokens" });
}

function breakdownView() {
  const found = [];
  for (const task of tasks()) {
    const runs = ofTask(task);
    const fields = [...new Set(runs.flatMap((run) => Object.keys(run.results.by || {})))];
    for (const field of fields) {
      const values = [...new Set(runs.flatMap((run) => Object.keys((run.results.by || {})[field] || {})))];
      const rows = values.map((value) => {
        const cells = runs.map((run) => ((run.results.by || {})[field] || {})[value]);
        const samples = ["level", "subject"].includes(field) && value !== "(none)" ? el("a", { href: address("Samples", { set: setOf(DATA.evaluations.indexOf(runs[0])).name, [field]: value }) }, value) : value;
        return [{ show: samples, value, csv: [value] }, String((cells.find(Boolean) || {}).problems ?? ""), ...cells.map(metricCell)];
      });
      found.push(el("h2", {}, `${task} by ${field}`), table([field, "problems", ...runs.map((run) => run.name)], rows, `${task}_by_${field}`));
    }
  }
  return found.length ? found : [el("p", { class: "soft" }, "No task here has several levels, subjects or sources.")];
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
  return el("div", { class: "scroll" }, el("div", {}, el("b", {}, `iteration ${each.iteration}`)), el("table", { class: "grid" },
    el("tr", {}, el("th", {}, "temperature \\ threshold"), g.thresholds.map((t) => el("th", {}, String(t)))), rows), el("div", { class: "soft" }, found));
}

const FIRST = ["eval/accuracy", "rollout/accuracy", "rollout/solved", "rollout/balance_score", "rollout/temperature", "rollout/threshold", "rollout/wrong_share", "rollout/distinct_correct", "train/loss"];

/** What the policy gradient's monitors answer, and the columns of metrics.csv that do. */
const POLICY = {
  "Is the update a small one? (ratio to the policy that drew the rows, shares of tokens beyond the bounds)": [["train/ratio", "train/ratio_max"], ["train/clip_low", "train/clip_high"], ["train/kl_old"], ["train/grad_norm"]],
  "Do engine and trainer agree? (gap of log-probabilities, k3 between the two)": [["train/engine_gap", "train/engine_gap_max"], ["train/engine_k3"]],
  "Is the policy still exploring? (entropy per token, KL to the start)": [["train/entropy", "rollout/entropy"], ["train/entropy_coefficient"], ["train/kl"], ["rollout/distinct_correct", "rollout/distinct_answers"]],
  "What is learnt from? (advantages, problems whose responses all got the same reward)": [["rollout/advantage_mean", "rollout/advantage_std", "rollout/advantage_max"], ["rollout/advantage_right", "rollout/advantage_wrong"], ["rollout/zero_spread_share"], ["rollout/num_rows", "rollout/num_truncated", "rollout/num_copies"], ["train/logp/right", "train/logp/wrong"]],
  "Do responses grow? (tokens of right and of wrong ones)": [["rollout/mean_tokens_right", "rollout/mean_tokens_wrong"], ["rollout/mean_tokens"], ["rollout/cut_share"]],
  "Does it get better?": [["eval/accuracy", "rollout/accuracy"], ["rollout/mean_reward"]],
};
/** Columns that only a policy gradient writes. */
const POLICY_ONLY = ["train/ratio", "train/logp/right", "rollout/advantage_std"];
const isPolicy = (training) => POLICY_ONLY.some((name) => training.curves[name]);

const axisOf = (name) => (/^(rollout|eval)\//.test(name) ? "iteration" : "step");

/** One chart of several columns of several runs. */
function curvesChart(title, names, trainings) {
  const series = names.flatMap((name) => trainings.filter((t) => t.curves[name]).map((t) => {
    const at = (suffix, x) => ((t.curves[name + suffix] || []).find((p) => p[0] === x) || [])[1];
    return { name: [names.length > 1 ? name.replace(/^(train|rollout)\//, "") : "", trainings.length > 1 || names.length === 1 ? t.name : ""].filter(Boolean).join(" "), points: t.curves[name].map(([x, y]) => ({ x, y, low: at("_low", x), high: at("_high", x) })) };
  }));
  return lineChart(title, series, { xLabel: axisOf(names[0]) });
}

function policyView() {
  const trainings = DATA.trainings.filter(isPolicy);
  return Object.entries(POLICY).flatMap(([question, groups]) => {
    const charts = groups.flatMap((names) => {
      const known = names.filter((name) => trainings.some((t) => t.curves[name]));
      // Of several runs each column has a chart; of one run those that have an axis, step or iteration, in common.
      const together = trainings.length > 1 ? known.map((name) => [name]) : [...new Set(known.map(axisOf))].map((axis) => known.filter((name) => axisOf(name) === axis));
      return together.map((same) => curvesChart(same.map((name) => name.replace(/^(train|rollout)\//, "")).join(", "), same, trainings));
    }).filter(Boolean);
    return charts.length ? [el("h2", {}, question), el("div", { class: "row" }, charts)] : [];
  });
}

/** Tokens per second of training; seconds and tokens per second of each phase of the iterations. */
function throughput(training) {
  const phases = [...new Set(training.iterations.flatMap((each) => Object.keys(each.seconds || {})))];
  const chart = (title, value) => lineChart(title, phases.map((phase) => ({ name: phase, points: training.iterations.filter((each) => each.seconds?.[phase] !== undefined).map((each) => ({ x: each.iteration, y: value(each, phase) })) })), { xLabel: "iteration" });
  const trained = training.curves["train/tokens_per_second"] ? curvesChart("train/tokens_per_second", ["train/tokens_per_second"], [training]) : null;
  return [trained, phases.length ? chart("seconds by phase", (each, phase) => each.seconds[phase]) : null, phases.length ? chart("tokens per second by phase", (each, phase) => (each.tokens?.[phase] && each.seconds[phase] ? each.tokens[phase] / each.seconds[phase] : null)) : null].filter(Boolean);
}

function trainingView(state) {
  const found = [], chosen = DATA.trainings.filter((t) => t.name === state.run), trainings = chosen.length ? chosen : DATA.trainings;
  if (DATA.trainings.length > 1) found.push(el("div", { class: "controls" }, choice("run", "run", [["", "all runs"], ...DATA.trainings.map((t) => [t.name])], state.run ?? "", (run) => show("Training", { run }))));
  for (const training of trainings) {
    const searched = training.iterations.filter((each) => each.grid), drawn = training.iterations.filter((each) => each.draws["pass@k"]);
    if (searched.length) {
      found.push(el("h2", {}, `Exploration and exploitation: ${training.name}`), el("p", { class: "soft" }, "Balance score of each sampling setting on the probe problems; the outlined cell was chosen."), el("div", { class: "row" }, searched.map(gridView)));
    }
    if (drawn.length) {
      const kinds = [...new Set(drawn.flatMap((each) => Object.keys(each.draws)))];
      found.push(el("h2", {}, `Samples of the iterations: ${training.name}`), el("div", { class: "row" },
        lineChart("pass@k of the rollouts", drawn.map((each) => ({ name: `iteration ${each.iteration}`, points: each.draws["pass@k"] })), { log: true, xLabel: "k" }),
        kinds.map((kind) => lineChart(`${kind} by iteration`, kIndex(drawn, kind), { xLabel: "iteration" })).filter(Boolean)));
    }
    const speed = throughput(training);
    if (speed.length) found.push(el("h2", {}, `Where the time goes: ${training.name}`), el("div", { class: "row" }, speed));
  }
  const names = [...new Set(trainings.flatMap((t) => Object.keys(t.curves)))].filter((name) => !/_(low|high)$/.test(name) || /^train\/clip_/.test(name));
  const chart = (name) => curvesChart(name, [name], trainings);
  const first = FIRST.filter((name) => names.includes(name)), rest = names.filter((name) => !FIRST.includes(name));
  found.push(el("h2", {}, "Curves"), el("div", { class: "row" }, first.map(chart).filter(Boolean)));
  if (rest.length) found.push(el("details", {}, el("summary", {}, `${rest.length} more`), el("div", { class: "row" }, rest.map(chart).filter(Boolean))));
  return found;
}

/** One series for each k, over iterations. */
function kIndex(iterations, kind) {
  const ks = [...new Set(iterations.flatMap((each) => (each.draws[kind] || []).map((p) => p.x)))];
  return ks.map((k) => ({ name: `k = ${k}`, points: iterations.map((each) => ({ ...((each.draws[kind] || []).find((p) => p.x === k) || { y: null }), x: each.iteration })) }));
}

const VIEWS = { Overview: overviewView };
if (DATA.evaluations.length) Object.assign(VIEWS, { Results: resultsView, Breakdown: breakdownView, Compare: compareView });
if (DATA.trainings.length) VIEWS.Training = trainingView;
if (DATA.trainings.some(isPolicy)) VIEWS.Policy = policyView;
VIEWS.Samples = samplesView;

let shown = null, asked = 0;

/** Note the address of what is seen now, without a step in the browser's history. */
function moved(view, state) {
  shown = address(view, state);
  if (location.hash !== shown) location.replace(shown);
}

/** Show a view; ends when it is in the page. What it has to do once it can be measured and scrolled is its `placed`. */
async function show(view, state = {}) {
  const mine = ++asked;
  shown = address(view, state);
  if (location.hash !== shown) location.hash = shown;
  document.getElementById("tabs").replaceChildren(...Object.keys(VIEWS).map((tab) => el("button", { role: "tab", "aria-selected": tab === view, onclick: () => show(tab) }, tab)));
  const content = await VIEWS[view](state);
  if (mine !== asked) return;
  document.getElementById("view").replaceChildren(...content.filter(Boolean));
  await content.placed?.();
}

function follow() {
  const [view, state] = readAddress(location.hash);
  return show(VIEWS[view] ? view : "Overview", VIEWS[view] ? state : {});
}
addEventListener("hashchange", () => { if (location.hash !== shown) follow(); });
const ready = follow();
if (DATA.refresh) setInterval(() => { if (document.visibilityState === "visible" && !["INPUT", "SELECT"].includes(document.activeElement?.tagName)) location.reload(); }, 1000 * DATA.refresh);
