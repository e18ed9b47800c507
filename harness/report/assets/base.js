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
  return [el("b", {}, digits(metric.value)), el("span", { class: "soft" }, ` [${digits(metric.low)}, ${digits(metric.high)}]`)];
}

function table(head, rows) {
  return el("table", {}, el("thead", {}, el("tr", {}, head.map((cell) => el("th", {}, cell)))), el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))))));
}
