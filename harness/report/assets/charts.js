const COLOURS = Array.from({ length: 8 }, (_, i) => `var(--line-${i})`);

/** About `count` round values (1, 2 or 5 times a power of ten apart) that enclose the range. */
function roundTicks(low, high, count = 4) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough * 0.999);
  const first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: Math.max(last - first, 1) + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** A number of an axis, without digits that say nothing. */
function tickText(value) {
  const size = Math.abs(value);
  return size >= 1e6 ? `${Number((value / 1e6).toPrecision(6))}M` : size >= 1e4 ? `${Number((value / 1e3).toPrecision(6))}k` : size && size < 1e-3 ? value.toExponential() : String(value);
}

/** A line chart; series are {name, points: [{x, y, low, high}]}. */
function lineChart(title, series, { log = false, xLabel = "", width = 380, height = 230 } = {}) {
  series = series.map((s) => ({ ...s, points: s.points.filter((p) => p.y !== null && p.y !== undefined) })).filter((s) => s.points.length);
  const points = series.flatMap((s) => s.points);
  if (!points.length) return null;
  const left = 50, right = 12, top = 28, bottom = 34 + 16 * Math.ceil(series.length / 2);
  height += 16 * Math.max(0, Math.ceil(series.length / 2) - 1);
  const scale = log ? Math.log2 : (x) => x;
  const largest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity), smallest = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
  const ys = points.flatMap((p) => [p.low ?? p.y, p.high ?? p.y, p.y]);
  let x0 = smallest(points.map((p) => scale(p.x))), x1 = largest(points.map((p) => scale(p.x)));
  let y0 = smallest(ys), y1 = largest(ys);
  if (y0 >= 0 && y0 < 0.35 * y1) y0 = 0;
  if (y1 === y0) [y0, y1] = [y0 - 0.5, y1 + 0.5];
  const yTicks = roundTicks(y0, y1);
  [y0, y1] = [yTicks[0], yTicks.at(-1)];
  const whole = [...new Set(points.map((p) => p.x))].sort((a, b) => a - b);
  const inside = roundTicks(x0, x1, 5).filter((x) => x >= x0 && x <= x1);
  const xTicks = log || whole.length <= 6 ? whole : inside;
  const px = (x) => left + ((scale(x) - x0) / (x1 - x0 || 1)) * (width - left - right);
  const py = (y) => height - bottom - ((y - y0) / (y1 - y0)) * (height - top - bottom);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  const label = (x, y, text, extra = {}) => root.append(svg("text", { x, y, ...extra }, text));
  label(left, 15, title, { class: "title" });
  yTicks.forEach((y) => {
    root.append(svg("line", { x1: left, x2: width - right, y1: py(y), y2: py(y), stroke: "var(--line)" }));
    label(left - 6, py(y) + 4, tickText(y), { "text-anchor": "end", class: "y-tick" });
  });
  xTicks.forEach((x) => label(px(x), height - bottom + 15, tickText(x), { "text-anchor": "middle", class: "x-tick" }));
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
    label(x + 14, y + 1, s.name.length > 26 ? `…${s.name.slice(-25)}` : s.name);
  });
  return root;
}
