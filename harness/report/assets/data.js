/** Everything that has samples: evaluations, iterations and search trees. */
const SETS = [
  ...DATA.evaluations.map((each, number) => ({ name: `${each.name} (${each.results.task})`, task: each.results.task, evaluation: number, protocol: each.protocol, limit: each.results.sampling.max_tokens, ...each.samples })),
  ...DATA.trainings.flatMap((training) => training.iterations.filter((each) => each.samples.kept).map((each) => ({ name: `${training.name}, iteration ${each.iteration}`, ...each.samples }))),
  ...DATA.trees.map((each) => ({ name: `${each.name} (search trees)`, trees: true, ...each.samples })),
];
const setOf = (evaluation) => SETS.find((set) => set.evaluation === evaluation);
const setNamed = (name) => SETS.find((set) => set.name === name) || SETS[0];

/** The text of a block of the page. */
async function unpack(number) {
  const letters = atob(document.getElementById(`block-${number}`).textContent), packed = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) packed[i] = letters.charCodeAt(i);
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

/** The lines of a set's problems: columns, where each stands, and the share of right responses. */
async function indexOf(set) {
  set.lines ??= unpack(set.index).then((text) => {
    const lines = JSON.parse(text);
    lines.place = new Map(lines.id.map((id, i) => [id, i]));
    lines.right = lines.verdicts.map((letters) => letters.split("1").length - 1);
    lines.share = lines.right.map((right, i) => right / (lines.verdicts[i].length || 1));
    return lines;
  });
  return set.lines;
}

const KEPT_BLOCKS = 12;
const unpacked = new Map();

/** The problems of a block, of which the last few are kept. */
async function problemsOf(set, number, text) {
  if (!unpacked.has(number)) {
    const block = JSON.parse(text ?? (await unpack(number)));
    for (const [tex, mathml] of Object.entries(block.formulas)) FORMULAS.set(tex, mathml);
    unpacked.set(number, set.trees ? block.problems.map(withLeaves) : block.problems.map((p) => ({ ...p, responses: p.responses.map(whole) })));
    if (unpacked.size > KEPT_BLOCKS) unpacked.delete(unpacked.keys().next().value);
  }
  return unpacked.get(number);
}

/** A response with all that the page leaves out where it is what one expects. */
function whole(r) {
  const ends = r.ends || [r.text.length];
  return { correct: false, truncated: false, answer: null, values: [], reward: Number(Boolean(r.correct)), ...r, steps: ends.map((end, i) => r.text.slice(i ? ends[i - 1] : 0, end)) };
}

/** A problem with its responses by its place in the index. */
async function problemAt(set, place) {
  for (const [number, count] of set.blocks) {
    if (place < count) return (await problemsOf(set, number))[place];
    place -= count;
  }
  return null;
}

const contains = (p, find) => `${p.id}\n${p.question}\n${p.answer}`.toLowerCase().includes(find) || p.responses.some((r) => r.text.toLowerCase().includes(find)) || (p.trees || []).some((tree) => tree.some((node) => node.step.toLowerCase().includes(find)));

/** The places of `wanted` whose problem or responses hold a text; `tell` hears after every part how many problems were
    searched and which of them hold it, and ends the search by saying false. */
async function search(set, wanted, find, tell) {
  const needle = JSON.stringify(find).slice(1, -1), rest = new Set(wanted), found = new Set();
  let first = 0;
  for (const [number, count] of set.blocks) {
    const places = Array.from({ length: count }, (_, i) => first + i).filter((place) => rest.has(place));
    first += count;
    if (places.length) {
      const text = await unpack(number);
      // Most blocks do not hold it anywhere; only the others are read.
      if (set.trees || text.toLowerCase().includes(needle)) {
        const problems = await problemsOf(set, number, text);
        places.filter((place) => contains(problems[place - first + count], find)).forEach((place) => found.add(place));
      }
    }
    if (!tell(first, found)) return null;
  }
  return wanted.filter((place) => found.has(place));
}

/** A number for a text, the same always (FNV-1a): a random order that stays. */
function scramble(text) {
  let hash = 2166136261;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 16777619);
  hash ^= hash >>> 15;
  return Math.imul(hash, 2246822519) >>> 0;
}

const ROW = 46;

/** A list of buttons of which only those in sight are in the page: of 100,000 problems, too. */
function longList(draw) {
  const inner = el("div", { class: "inner" }), outer = el("div", { class: "list" }, inner);
  let places = [];
  function fill() {
    const first = Math.max(0, Math.floor(outer.scrollTop / ROW) - 5), last = Math.min(places.length, first + Math.ceil((outer.clientHeight || 600) / ROW) + 10);
    inner.replaceChildren(...places.slice(first, last).map((place, i) => {
      const button = draw(place);
      button.style.top = `${(first + i) * ROW}px`;
      return button;
    }));
  }
  outer.addEventListener("scroll", fill);
  outer.fill = (found, reset = true) => {
    places = found;
    inner.style.height = `${places.length * ROW}px`;
    if (reset) outer.scrollTop = 0;
    fill();
  };
  outer.show = (place) => {
    const at = places.indexOf(place) * ROW;
    if (at < outer.scrollTop || at + ROW > outer.scrollTop + outer.clientHeight) outer.scrollTop = Math.max(0, at - ROW);
    fill();
  };
  return outer;
}
