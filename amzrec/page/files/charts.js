"use strict";
// Charts as SVG, each with a title that says what it shows; the table below it has the numbers.

const WIDTH = 340;  // units of a chart; it is scaled to the width that it gets, which is about as many pixels

function frame(height, label, ...content) {
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label, class: "chart" }, ...content);
}

function words(x, y, text, attributes) {
  return svg("text", { x, y, ...attributes }, text);
}

/** Cut a name to a number of letters. */
function cut(text, letters) {
  return text.length > letters ? `${text.slice(0, letters - 1)}\u2026` : text;
}

/** Choose about `count` round values that cover [low, high]. */
function ticks(low, high, count) {
  const rough = (high - low || Math.abs(high) || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step || 0);  // no -0
  return { values: found, digits: Math.max(0, Math.min(6, (String(+step.toPrecision(3)).split(".")[1] || "").length)) };
}

/** Draw a bar per system, the model in colour; `low` and `high` are the ends of its interval where there is one. */
function bars(label, systems, digits, format) {
  const row = 40, right = 58, height = systems.length * row;
  const most = Math.max(...systems.map((s) => Math.max(s.value, s.high || 0))) || 1;
  const x = (value) => (Math.max(0, value) / most) * (WIDTH - right);
  return frame(height, label, systems.map((s, i) => {
    const y = i * row + 18;
    const interval = s.low === undefined ? null : svg("path", { class: "interval", d: `M${x(s.low)} ${y + 6}H${x(s.high)}M${x(s.low)} ${y + 2}v8M${x(s.high)} ${y + 2}v8` });
    const end = Math.max(x(s.value), s.high === undefined ? 0 : x(s.high));
    return svg("g", { class: s.kind },
      words(0, y - 5, cut(s.name, 48), { class: "of" }),
      svg("rect", { x: 0, y, width: Math.max(1, x(s.value)), height: 12, rx: 2 }),
      interval,
      words(end + 6, y + 10.5, format ? format(s.value) : number(s.value, digits), { class: "figure" }));
  }));
}

/** Draw curves over epochs: [{name, kind, points: [[x, y]], dashed}]; `best` marks an epoch of the first one. */
function lines(label, curves, best) {
  const left = 40, right = 12, top = 12, bottom = 26, height = 190;
  const points = curves.flatMap((c) => c.points);
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  let [low, high] = [Math.min(...ys), Math.max(...ys)];
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  [low, high] = [low - pad, high + pad];
  const [first, last] = [Math.min(...xs), Math.max(...xs)];
  const x = (v) => left + ((v - first) / (last - first || 1)) * (WIDTH - left - right);
  const y = (v) => top + ((high - v) / (high - low)) * (height - top - bottom);
  const level = ticks(low, high, 4), epoch = ticks(first, last, 6);
  const marked = best === undefined ? null : curves[0].points.find((p) => p[0] === best);
  return frame(height, label,
    level.values.map((v) => svg("g", { class: "grid" }, svg("path", { d: `M${left} ${y(v)}H${WIDTH - right}` }), words(left - 8, y(v) + 4, number(v, level.digits), { "text-anchor": "end" }))),
    epoch.values.filter(Number.isInteger).map((v) => words(x(v), height - 8, number(v), { "text-anchor": "middle", class: "tick" })),
    curves.map((c) => svg("path", { class: `line ${c.kind}${c.dashed ? " dashed" : ""}`, d: c.points.map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("") })),
    curves.filter((c) => c.points.length === 1).map((c) => svg("circle", { class: `dot ${c.kind}`, cx: x(c.points[0][0]), cy: y(c.points[0][1]), r: 3.5 })),
    marked ? svg("circle", { class: `dot ${curves[0].kind}`, cx: x(marked[0]), cy: y(marked[1]), r: 4.5 }) : null);
}

/** Draw two bars per part, beside each other: [{name, first, second}] as shares. */
function pairs(label, parts) {
  const left = 42, right = 4, top = 10, bottom = 26, height = 210;
  const most = Math.max(...parts.flatMap((p) => [p.first, p.second])) || 1;
  const level = ticks(0, most, 4);
  const y = (v) => top + (1 - v / (most * 1.02)) * (height - top - bottom);
  const each = (WIDTH - left - right) / parts.length, wide = Math.min(28, each * 0.4);
  const bar = (kind, x, v) => svg("rect", { class: kind, x, y: y(v), width: wide, height: Math.max(0, height - bottom - y(v)), rx: Math.min(2, wide / 4) });
  return frame(height, label,
    level.values.map((v) => svg("g", { class: "grid" }, svg("path", { d: `M${left} ${y(v)}H${WIDTH - right}` }), words(left - 6, y(v) + 4, percent(v, Math.max(0, level.digits - 2)), { "text-anchor": "end" }))),
    parts.map((p, i) => {
      const middle = left + (i + 0.5) * each;
      return svg("g", null, bar("recommended", middle - wide - 1, p.first), bar("bought", middle + 1, p.second), words(middle, height - 8, p.name, { "text-anchor": "middle", class: "tick" }));
    }));
}

/** Say which colour is what. */
function legend(entries) {
  return el("p", { class: "legend" }, entries.map(([kind, text]) => el("span", null, el("span", { class: `key ${kind}`, "aria-hidden": "true" }), text)));
}
