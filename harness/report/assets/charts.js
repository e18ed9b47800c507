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
