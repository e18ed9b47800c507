const tasks = () => [...new Set(DATA.evaluations.map((e) => e.results.task))];
const ofTask = (task) => DATA.evaluations.filter((e) => e.results.task === task);
const cellsOf = (task, model) => DATA.evaluations.findIndex((e) => e.results.task === task && e.model === model);

/** Tasks x models; every cell says the accuracy, and how sure its difference to the reference's is. */
function matrixView(reference) {
  const rows = tasks().map((task) => [task, ...DATA.models.map((model) => {
    const at = cellsOf(task, model);
    if (at < 0) return { show: "", value: null, csv: ["", "", ""] };
    const each = DATA.evaluations[at], accuracy = each.results.metrics.accuracy, base = cellsOf(task, reference);
    const show = [el("a", { href: address("Samples", { set: setOf(at).name }), title: "its samples" }, interval(accuracy))];
    const test = base >= 0 && model !== reference ? turned(testOf(base, at), base) : null;
    if (test) {
      const p = test.p_value_holm[test.models.indexOf(reference)], [tone, word] = verdict(test, p);
      const said = test.difference === undefined ? word : `${signed(test.difference)} [${signed(test.low)}, ${signed(test.high)}]`;
      show.push(el("a", { class: "difference", title: `${test.sentence}${p === null ? "" : ` Adjusted for all tests against ${reference}: p = ${digits(p)}.`}`, href: address("Compare", { task, a: DATA.evaluations[base].name, b: each.name }) }, said, " ", el("span", { class: `tag ${tone}` }, word)));
    }
    return { ...metricCell(accuracy), show };
  })]);
  return table(["task", ...DATA.models], rows, "tasks_by_models");
}

/** The runs, each below the one whose checkpoint it used. */
function runsView() {
  const rows = DATA.runs.map((run) => [
    { show: [el("span", { class: "branch", style: `padding-left: ${run.depth * 18}px` }, run.depth ? "└ " : "", linkTo(run))], value: run.name, csv: [run.name] },
    run.kind, run.when.replace("T", " ").replace("+00:00", ""), run.parent ? `${run.model} (from ${run.parent})` : run.model,
    { show: Object.entries(run.data).map(([name, hash]) => el("div", { class: "soft" }, `${name.split("/").pop()} ${hash}`)), value: Object.keys(run.data).join(" "), csv: [Object.entries(run.data).map(([name, hash]) => `${name} ${hash}`).join(" ")] },
    run.state, run.result]);
  return table(["run", "kind", "when (UTC)", "model", "data", "how far", "result"], rows, "runs");
}

function linkTo(run) {
  const evaluation = DATA.evaluations.findIndex((each) => each.folder === run.path), tree = DATA.trees.find((each) => each.folder === run.path);
  const href = evaluation >= 0 ? address("Samples", { set: setOf(evaluation).name }) : tree ? address("Samples", { set: `${tree.name} (search trees)` }) : address("Training", { run: run.name });
  return el("a", { href }, run.name);
}

function overviewView(state) {
  const found = [];
  if (DATA.evaluations.length) {
    const reference = DATA.models.includes(state.reference) ? state.reference : DATA.reference;
    found.push(el("h2", {}, "Which model is better?"));
    if (DATA.models.length > 1) {
      found.push(el("div", { class: "controls" }, "compared with ", choice("reference", "reference", DATA.models.map((model) => [model]), reference, (model) => show("Overview", { reference: model }))));
      const against = DATA.tests.filter((test) => test.models.includes(reference) && test.difference !== undefined);
      const sure = against.filter((test) => test.significant && test.p_value_holm[test.models.indexOf(reference)] < 0.05);
      found.push(matrixView(reference),
        sure.length ? el("ul", { id: "verdicts" }, sure.map((test) => el("li", {}, test.sentence))) : el("p", { id: "unsure" }, against.length ? `No difference to ${reference} is shown on these problems.` : "No two evaluations here are of the same task."),
        el("p", { class: "soft" }, `Accuracy with its 95 % interval, and its difference to ${reference}'s on the problems that both have; better and worse are said where the test rejects after Holm's adjustment for all ${against.length} tests against ${reference} and the difference is one these problems can show. A click on a difference shows the problems that changed.`));
    } else {
      found.push(matrixView(reference));
    }
  }
  found.push(el("h2", {}, "Runs, each below the one it was made from"), runsView());
  found.push(...DATA.evaluations.filter((each) => each.results.counts.truncated || each.results.counts.no_answer).slice(0, 12).map((each) => {
    const { samples, truncated, no_answer: none } = each.results.counts, set = setOf(DATA.evaluations.indexOf(each)).name;
    const link = (kind, count) => el("a", { href: address("Samples", { set, kind }) }, `${count} ${kind}`);
    return el("p", { class: "soft" }, `${each.name}: of ${samples} samples `, truncated ? link("truncated", truncated) : null, truncated && none ? ", " : "", none ? link("no answer", none) : null, `.`);
  }));
  const details = DATA.evaluations.map((each) => el("details", {}, el("summary", {}, `${each.name}: configuration`), el("pre", {}, JSON.stringify({ config: each.results.config, sampling: each.results.sampling, protocol: each.protocol, versions: each.results.versions, hashes: each.results.hashes }, null, 1))));
  if (details.length) found.push(el("h2", {}, "How"), ...details);
  found.push(el("p", { class: "soft" }, `Written ${DATA.written.replace("T", " ").replace("+00:00", " UTC")}.`));
  return found;
}
