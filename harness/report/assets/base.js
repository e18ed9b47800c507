"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
// The same expression as FORMULA in formulas.py.
const FORMULA = /\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|(?<![\\$\w])\$(?![\s$])([^$\n]{1,300}?)(?<![\s\\])\$/g;
/** MathML by TeX of the blocks that are unpacked. */
const FORMULAS = new Map();

/** An element with attributes ("on..." are listeners) and children (elements or strings). */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-")) node.setAttribute(name, String(value));
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const digits = (value) => (value === null || value === undefined ? "–" : Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : Math.abs(value) >= 0.001 || value === 0 ? value.toFixed(3) : value.toExponential(1));
const signed = (value) => (value > 0 ? "+" : "") + digits(value);

/** The address of a view of this page, for links that go straight there. */
function address(view, state = {}) {
  const words = new URLSearchParams(Object.entries(state).filter(([, value]) => value !== undefined && value !== null && value !== ""));
  return `#${view}${String(words) && `?${words}`}`;
}

function readAddress(hash) {
  const at = hash.indexOf("?");
  return [decodeURIComponent(hash.slice(1, at < 0 ? undefined : at)), Object.fromEntries(new URLSearchParams(at < 0 ? "" : hash.slice(at + 1)))];
}

/** Text with its formulas as MathML where the page holds them, and the parts that match `find` marked. */
function rich(text, find) {
  const parts = [];
  let last = 0;
  for (const match of text.matchAll(FORMULA)) {
    const tex = (match[1] ?? match[2] ?? match[3] ?? match[4]).trim();
    const mathml = FORMULAS.get(tex);
    if (!mathml) continue;
    parts.push(...marked(text.slice(last, match.index), find));
    // As XML, in which nothing but what formulas.py allows can stand; never as HTML, for a model wrote the text in it.
    const tree = new DOMParser().parseFromString(mathml, "application/xml").documentElement;
    parts.push(el("span", { title: tex }, document.importNode(tree, true)));
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

function interval(metric) {
  if (!metric || metric.value === null) return "–";
  return [el("b", {}, digits(metric.value)), el("span", { class: "soft", title: metric.error ? `standard error ${digits(metric.error)}` : "" }, ` [${digits(metric.low)}, ${digits(metric.high)}]`)];
}

/** A table's cell of a number with its interval: sorted by the number, in three columns of a CSV file. */
const metricCell = (metric) => ({ show: interval(metric), value: metric ? metric.value : null, csv: metric ? [metric.value, metric.low, metric.high] : ["", "", ""] });

/** What a table's cell shows, is sorted by and is in a CSV file; cells are texts, elements, or {show, value, csv}. */
function cellOf(cell) {
  if (cell && typeof cell === "object" && "show" in cell) return cell;
  const text = typeof cell === "string" ? cell : [cell].flat().map((each) => each?.textContent ?? each ?? "").join("");
  const number = text.trim() === "" ? NaN : Number(text);
  return { show: cell, value: Number.isNaN(number) ? text : number, csv: [text] };
}

/** A table that is sorted by a click on a column's head, in turn up and down, and is saved as CSV. */
function table(head, rows, name = "table") {
  const cells = rows.map((row) => row.map(cellOf));
  const body = el("tbody");
  const fill = (order) => body.replaceChildren(...order.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell.show)))));
  const heads = head.map((title, column) => el("th", { "aria-sort": "none" }, el("button", { class: "head", title: "sort", onclick: () => sort(column) }, title)));
  function sort(column) {
    const up = heads[column].getAttribute("aria-sort") !== "ascending";
    heads.forEach((each, i) => each.setAttribute("aria-sort", i !== column ? "none" : up ? "ascending" : "descending"));
    const missing = (value) => value === null || value === undefined || value === "";
    fill([...cells].sort((a, b) => {
      const [x, y] = [a[column].value, b[column].value];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      const less = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
      return up ? less : -less;
    }));
  }
  fill(cells);
  const save = el("button", { class: "csv", title: `save ${name}.csv`, onclick: () => download(`${name}.csv`, csv(head, cells)) }, "CSV");
  return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, heads)), body), save);
}

/** Comma-separated values (RFC 4180); text that a spreadsheet would take for a formula begins with an apostrophe. */
function csv(head, cells) {
  const quoted = (value) => {
    const text = value === null || value === undefined ? "" : typeof value === "string" && /^[=+\-@\t\r]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const widths = head.map((_, column) => Math.max(1, ...cells.map((row) => row[column].csv.length)));
  const titles = head.flatMap((title, column) => (widths[column] === 3 ? [title, `${title} low`, `${title} high`] : [title]));
  const lines = cells.map((row) => row.flatMap((cell, column) => Array.from({ length: widths[column] }, (_, i) => cell.csv[i] ?? "")));
  return [titles, ...lines].map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
