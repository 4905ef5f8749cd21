"use strict";
// What a run is worth: the same in the page of the service and in a report.

const MEASURES = [
  // group, metric, heading, what it says, whether less is better, how it is written
  ["rating", "rmse", "RMSE of the stars", "Lower is better: how far predicted stars are off.", true, (v) => number(v, 3)],
  ["retrieval", "top_10", "Found in the top 10", "Higher is better: test reviews whose product is among the 10 best of all.", false, (v) => percent(v)],
  ["ranking", "ndcg@10", "NDCG@10", "Higher is better: how high in the list the products of the test stand.", false, (v) => number(v, 3)],
];
const COLUMNS = [
  ["rating", "rmse", "RMSE"], ["rating", "mae", "MAE"], ["rating", "ndcg@5", "NDCG@5"],
  ["retrieval", "top_1", "top-1"], ["retrieval", "top_10", "top-10"], ["retrieval", "top_100", "top-100"],
  ["ranking", "recall@10", "recall@10"], ["ranking", "ndcg@10", "NDCG@10"], ["ranking", "mrr", "MRR"],
  ["ranking", "coverage@10", "coverage@10"], ["ranking", "novelty@10", "novelty@10"],
];
const SLICES = {
  known_customer: "Known customers", unknown_customer: "New customers", head_product: "Popular products",
  tail_product: "Rare products", new_product: "New products", top_rated: "Rated best",
};

function plain(name) {
  return name.replaceAll("_", " ");
}

function heading(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Draw the summary of a run into an element. */
function draw_model(into, found) {
  into.replaceChildren(...[
    el("h1", { tabindex: "-1" }, "Model ", name_of(found.run)),
    el("p", { class: "quiet" }, facts(found)),
    found.figures ? tiles(found) : empty("No figures yet", name_of(found.missing)),
    found.figures ? against(found.figures) : null,
    spread(found.shares),
    found.figures && found.figures.slices.length ? slices(found.figures) : null,
    training(found),
    settings(found),
  ].filter(Boolean));
}

function facts(found) {
  const parts = [`${few(found.counts.reviews, "review")} of ${few(found.counts.customers, "customer")}`, few(found.counts.products, "product")];
  const protocol = found.figures && found.figures.protocol;
  if (found.source) parts.unshift(name_of(found.source));
  if (protocol) parts.push(`${number(protocol.test_rows)} test reviews, ${protocol.split} split`);
  parts.push(`trained ${new Date(1000 * found.finished).toISOString().slice(0, 10)} in ${number(Math.max(1, found.seconds))}\u202fs`);
  return parts.flatMap((part, i) => (i ? [" \u00b7 ", part] : [part]));
}

// --- the figures that matter, and the systems beside each other

function rivals(figures, group, metric) {
  return figures.systems.filter((s) => s.kind === "baseline" && s[group] && metric in s[group]);
}

function best_of(figures, group, metric, less) {
  const sorted = rivals(figures, group, metric).sort((a, b) => (less ? 1 : -1) * (a[group][metric] - b[group][metric]));
  return sorted[0];
}

function tiles(found) {
  const figures = found.figures, model = figures.systems[0];
  const made = MEASURES.filter(([group, metric]) => model && model.kind === "model" && model[group] && metric in model[group]).map(([group, metric, name, , less, write]) => {
    const rival = best_of(figures, group, metric, less);
    const gap = rival && ((figures.gaps[rival.name] || {})[group] || {})[metric];
    const sure = gap && (less ? gap.high < 0 : gap.low > 0);
    const worse = gap && (less ? gap.low > 0 : gap.high < 0);
    return tile(name, write(model[group][metric]),
      rival ? `${write(rival[group][metric])} with ${plain(rival.name)}` : "no baseline",
      gap ? (sure ? "better, beyond chance" : worse ? "worse, beyond chance" : "no clear difference") : null, sure ? "good" : worse ? "bad" : "even");
  });
  const lists = model && model.ranking;
  if (lists && "coverage@10" in lists) made.push(tile("Coverage", percent(lists["coverage@10"]), "of the catalogue is recommended to someone"));
  if (lists && "novelty@10" in lists) made.push(tile("Novelty", `${number(lists["novelty@10"], 1)} bits`, "mean surprise of a recommended product"));
  return el("ul", { class: "tiles" }, made);
}

function tile(name, value, below, verdict, kind) {
  return el("li", null, el("p", { class: "label" }, name), el("p", { class: "value" }, value), el("p", { class: "quiet" }, below), verdict ? el("p", { class: `verdict ${kind}` }, verdict) : null);
}

function against(figures) {
  const panels = MEASURES.map(([group, metric, name, text, less, write]) => {
    const systems = figures.systems.filter((s) => s[group] && metric in s[group]).map((s) => {
      const gap = s.kind === "baseline" ? ((figures.gaps[s.name] || {})[group] || {})[metric] : null;
      const mine = figures.systems[0][group];
      const ends = gap && mine ? { low: mine[metric] - gap.high, high: mine[metric] - gap.low } : {};
      return { name: heading(plain(s.name)), kind: s.kind, value: s[group][metric], ...ends };
    }).sort((a, b) => (less ? a.value - b.value : b.value - a.value));
    if (!systems.length) return null;
    const label = `${name}: ${systems.map((s) => `${s.name} ${write(s.value)}`).join(", ")}`;
    return el("figure", null, el("figcaption", null, el("h3", null, name), el("p", { class: "quiet" }, text)), bars(label, systems, 3, write));
  });
  const columns = COLUMNS.filter(([group, metric]) => figures.systems.some((s) => s[group] && metric in s[group]));
  const rows = figures.systems.map((s) => [heading(plain(s.name)), ...columns.map(([group, metric]) => (s[group] && metric in s[group] ? number(s[group][metric], metric.startsWith("novelty") ? 2 : 4) : "\u2013"))]);
  const gaps = Object.entries(figures.gaps).map(([rival, groups]) => [heading(plain(rival)), ...MEASURES.map(([group, metric]) => interval((groups[group] || {})[metric]))]);
  return section("Against the baselines", "A whisker is the 95\u202f% interval of a baseline's distance from the model: one that does not reach the model's bar is a difference beyond chance.",
    el("div", { class: "panels" }, panels),
    folded("All figures as a table", table("Figures of the model and the baselines", ["System", ...columns.map((c) => c[2])], rows)),
    gaps.length ? folded("Differences with intervals", table("Model minus baseline, with 95 % intervals", ["Model minus \u2026", ...MEASURES.map((m) => m[2])], gaps)) : null);
}

function interval(gap) {
  const signed = (v) => `${v < 0 ? "\u2212" : "+"}${number(Math.abs(v), 4)}`;
  return gap ? `${signed(gap.difference)} (${signed(gap.low)} to ${signed(gap.high)})` : "\u2013";
}

function section(title, text, ...content) {
  const id = `section-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return el("section", { class: "card", "aria-labelledby": id }, el("h2", { id }, title), text ? el("p", { class: "quiet" }, text) : null, ...content);
}

// --- what is recommended beside what is bought

function spread(shares) {
  const title = "What is recommended, what is bought";
  if (!shares) return section(title, null, empty("Nothing to show", "No customer of this run has reviews that it was fitted on."));
  const last = shares.parts.length;
  const parts = shares.parts.map((part, i) => ({ name: String(i + 1), first: part.recommended, second: part.bought }));
  const first = shares.parts[0];
  const label = `Share of recommendations and of reviews by popularity, from the most reviewed part of the catalogue to the least reviewed: ${parts.map((p) => `part ${p.name} ${percent(p.first, 0)} and ${percent(p.second, 0)}`).join(", ")}`;
  const rows = shares.parts.map((part, i) => [`Part ${i + 1}, ${few(part.products, "product")}`, percent(part.recommended), percent(part.bought)]);
  const top = shares.top.map((product) => [title_of(product), percent(product.customers), percent(product.bought, 2)]);
  return section(title,
    `The catalogue in ${last === 1 ? "one part" : `${last} equal parts`}, the most reviewed first. Part 1 gets ${percent(first.recommended, 0)} of the recommendations and ${percent(first.bought, 0)} of the reviews.`,
    el("div", { class: "panels two" },
      el("figure", null, legend([["recommended", "recommended"], ["bought", "bought (reviews)"]]), pairs(label, parts)),
      el("div", null, el("h3", null, "Recommended most"), el("ol", { class: "most" }, shares.top.slice(0, 5).map((product) => el("li", null, title_of(product), " ", el("span", { class: "quiet" }, `to ${percent(product.customers, 0)} of customers`)))),
        el("p", { class: "quiet" }, `${percent(shares.coverage)} of ${few(shares.products, "product")} reach someone. A recommended product has ${number(shares.reviews.recommended)} reviews on average, a bought one ${number(shares.reviews.bought)}.`),
        el("p", { class: "quiet" }, `Top ${shares.k} of ${shares.customers < shares.of ? `${number(shares.customers)} customers, drawn from ${number(shares.of)}` : few(shares.customers, "customer")}, without what they have.`))),
    folded("Shares as a table", table("Shares of recommendations and of reviews by popularity", ["Part of the catalogue", "Recommended", "Bought"], rows)),
    folded(`The ${shares.top.length} products that are recommended most`, table("Products that are recommended most", ["Product", "Customers who get it", "Share of reviews"], top)));
}

// --- parts of the test

function slices(figures) {
  const shown = MEASURES.filter(([, metric]) => figures.slices.some((s) => s[metric]));
  const rows = figures.slices.map((s) => [
    SLICES[s.name] || heading(plain(s.name)), number(s.rows),
    ...shown.map(([, metric, , , less, write]) => {
      const found = s[metric];
      if (!found) return "\u2013";
      const better = found.baseline && (less ? found.model < found.reached : found.model > found.reached);
      return [el("strong", null, write(found.model)), found.baseline ? el("span", { class: better ? "under" : "under bad" }, `${better ? "best baseline" : "behind"} ${write(found.reached)}`) : null];
    }),
  ]);
  return section("By kind of customer and product", "Parts of the test reviews; below each figure that of the baseline that is best there.",
    table("Figures on parts of the test reviews", ["Part", "Reviews", ...shown.map((m) => m[2])], rows));
}

// --- training

function training(found) {
  const rows = found.curves;
  if (!rows.length) return section("Training", null, empty("No training curves", "The run folder has no history.csv."));
  const columns = Object.keys(rows[0]);
  const tasks = columns.filter((c) => c.endsWith("_loss")).map((c) => c.slice(0, -5));
  const phases = [["select", false], ["refit", true]];
  const curve = (phase, value) => rows.filter((r) => r.phase === phase).map((r) => [r.epoch, value(r)]).filter((p) => p[0] !== null && p[1] !== null && Number.isFinite(p[1]));
  const losses = tasks.flatMap((task) => phases.map(([phase, dashed]) => ({ kind: task, dashed, points: curve(phase, (r) => (r[`${task}_constant`] && r[`${task}_loss`] !== null ? r[`${task}_loss`] / r[`${task}_constant`] : null)) }))).filter((c) => c.points.length);
  const figure = (name, text, chart) => el("figure", null, el("figcaption", null, el("h3", null, name), el("p", { class: "quiet" }, text)), chart);
  const panels = [];
  if (losses.length) {
    const dashed = losses.some((c) => c.dashed);
    panels.push(el("figure", null, el("figcaption", null, el("h3", null, "Loss"), el("p", { class: "quiet" }, `As a share of a constant's.${dashed ? " Dashed: the refit on train and validation." : ""}`)),
      lines(`Training loss of ${tasks.join(" and ")} by epoch`, losses), legend(tasks.map((task) => [task, task]))));
  }
  for (const name of columns.filter((c) => c.startsWith("valid_"))) {
    const points = curve("select", (r) => r[name]);
    const task = name === "valid_rmse" ? "rating" : "retrieval", best = found.best_epochs[task];
    if (!points.length) continue;
    const chosen = points.find((p) => p[0] === best);
    const label = name.slice(6).replace("_", " ").toUpperCase();
    panels.push(figure(`${label} on validation`, chosen ? `Epoch ${best} was kept: ${number(chosen[1], 4)}.` : "By epoch.", lines(`${label} on the validation reviews by epoch, from ${number(points[0][1], 4)} to ${number(points[points.length - 1][1], 4)}`, [{ kind: task, points }], best)));
  }
  const shown = columns.filter((c) => rows.some((r) => r[c] !== null));
  return section("Training", null, el("div", { class: "panels" }, panels),
    folded(`All ${few(rows.length, "epoch")} as a table`, table("Epochs of the training", shown.map((c) => heading(plain(c))), rows.map((r) => shown.map((c) => (r[c] === null ? "\u2013" : typeof r[c] === "number" ? String(+r[c].toPrecision(5)) : String(r[c])))))));
}

/** Write a value of a setting as people say it. */
function worded(value) {
  if (value === null || value === "") return "\u2013";
  if (Array.isArray(value)) return value.length ? value.map(worded).flatMap((each, i) => (i ? [", ", each] : [each])) : "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return name_of(typeof value === "object" ? JSON.stringify(value) : value);
}

function settings(found) {
  const rows = Object.entries(found.settings).map(([name, value]) => [`--${name.replaceAll("_", "-")}`, worded(value)]);
  const protocol = found.figures ? Object.entries(found.figures.protocol).map(([name, value]) => [heading(plain(name)), worded(value)]) : [];
  return section("Settings", null,
    rows.length ? folded("How it was trained", table("Settings of the training", ["Setting", "Value"], rows)) : null,
    protocol.length ? folded("What it was measured on", table("Protocol of the figures", ["", "Value"].map((t) => t || "Fact"), protocol)) : null,
    el("p", { class: "quiet" }, `amzrec ${found.version}`));
}

// a report has its document inside
if (document.getElementById("document")) {
  draw_model(document.getElementById("main"), JSON.parse(document.getElementById("document").textContent));
}
