/** A problem of a file of search trees, its answered leaves as responses. */
function withLeaves(problem) {
  problem.trees.forEach((tree) => tree.forEach((node) => Object.assign(node, { step: node.step ?? "", parent: node.parent ?? -1, children: [], below: [0, 0] })));
  for (const tree of problem.trees) {
    // A child comes after its parent, so that from the end on every count is complete when it is added.
    for (let i = tree.length - 1; i > 0; i--) {
      const node = tree[i], parent = tree[node.parent];
      if (node.state === "answered") node.below = [node.correct ? 1 : 0, 1];
      parent.below = [parent.below[0] + node.below[0], parent.below[1] + node.below[1]];
      parent.children.unshift(node);
    }
  }
  return { ...problem, responses: problem.trees.flatMap((tree) => tree.filter((node) => node.state === "answered").map((node) => leaf(tree, node))) };
}

function leaf(tree, node) {
  const path = [];
  for (let at = node; at !== tree[0]; at = tree[at.parent]) path.unshift(at);
  return {
    text: path.map((each) => each.step).join(""),
    steps: path.map((each) => each.step), values: path.map((each) => each.q), answer: node.answer, correct: Boolean(node.correct),
    status: node.answer === undefined ? "no_answer" : "ok", reward: node.value, tokens: path.reduce((sum, each) => sum + each.tokens, 0), truncated: false,
  };
}

const ENDS = { no_answer: "no answer", too_long: "too long", error: "code error" };

/** What a search knows of a node: its verdict, or how many of the answers below it are right; Q, visits, first value. */
function nodeTags(node) {
  const [right, all] = node.below;
  const verdict = node.state === "answered" ? [node.correct ? "right" : "wrong", node.correct ? "right" : "wrong"]
    : ENDS[node.state] ? ["warn", ENDS[node.state]] : [right ? "right" : all ? "wrong" : "plain", `${right}/${all} right`];
  return [
    el("span", { class: `tag ${verdict[0]}` }, verdict[1]),
    node.failed && node.state !== "error" ? el("span", { class: "tag warn" }, "code error") : null,
    el("span", { class: "soft" }, `Q ${digits(node.q)}, visits ${node.visits}${node.value === undefined ? "" : `, value ${digits(node.value)}`}${node.answer === undefined ? "" : `, answer ${node.answer}`} `),
  ];
}

/** A node that makes its children when it is first opened: trees may hold thousands. */
function nodeView(node, title) {
  const [line, ...more] = node.step.trim().split("\n");
  const summary = el("summary", {}, nodeTags(node), el("span", { class: "text" }, title ?? rich(line, finding)));
  const body = [
    more.length ? el("div", { class: "text step-text" }, rich(node.step.trim(), finding)) : null,
    node.error ? el("div", { class: "text soft" }, node.error) : null,
  ];
  const holder = el("details", { class: "node" }, summary, body);
  holder.fill = () => { if (!holder.filled) { holder.filled = true; holder.append(...node.children.map((child) => nodeView(child))); } };
  holder.addEventListener("toggle", holder.fill);
  holder.unfold = (depth) => {
    if (!depth) return;
    holder.fill();
    holder.open = true;
    [...holder.children].filter((child) => child.unfold).forEach((child) => child.unfold(depth - 1));
  };
  if (!node.children.length && !more.length && !node.error) holder.classList.add("bare");
  return holder;
}

/** The trees of one problem, open to their first steps. */
function searchTrees(trees) {
  const views = trees.map((tree, i) => nodeView(tree[0], `tree ${i + 1} of ${trees.length}: ${tree.length} nodes`));
  views.forEach((view) => view.unfold(1));
  const fold = () => views.forEach((view) => view.querySelectorAll("details").forEach((node) => { node.open = false; }));
  return el("div", { class: "tree" },
    el("div", { class: "controls" }, el("button", { id: "unfold", onclick: () => views.forEach((view) => view.unfold(Infinity)) }, "unfold all"), el("button", { id: "fold", onclick: fold }, "fold")),
    views);
}
