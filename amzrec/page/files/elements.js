"use strict";
// What everything on the page is built with. Texts of the data become text nodes, never markup.

/** Make an element: attributes (functions listen, null is left out) and children (texts, elements, null). */
function el(name, attributes, ...children) {
  const element = document.createElement(name);
  return filled(element, attributes, children);
}

/** Make an element of SVG. */
function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  return filled(element, attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(2)) if (child !== null && child !== undefined) element.append(child);
  return element;
}

/** Write a text of the data so that it is seen: controls as their symbols, an empty-looking one in quotes. */
function seen(text) {
  const visible = String(text)
    .replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, "\ufffd");
  return visible.trim() === visible && visible ? visible : `\u201c${visible}\u201d`;
}

/** Show a text of the data, whatever direction it is written in. */
function name_of(text, attributes) {
  return el("bdi", attributes, seen(text));
}

/** Show a product by its title, or its id where it has none. */
function title_of(product) {
  return name_of(product.title || product.product_id);
}

function hidden(text) {
  return el("span", { class: "visually-hidden" }, text);
}

function number(value, digits) {
  return value.toLocaleString("en", { minimumFractionDigits: digits || 0, maximumFractionDigits: digits || 0 });
}

function percent(share, digits) {
  return `${number(100 * share, digits === undefined ? 1 : digits)}\u202f%`;
}

function few(count, one, many) {
  return `${number(count)} ${count === 1 ? one : many || `${one}s`}`;
}

/** Show stars on the scale [low, high]: glyphs where there are at most five, with a text for those who hear it. */
function stars(value, scale, digits) {
  const high = scale ? scale[1] : 5;
  const shown = number(value, digits);
  const box = el("span", { class: "stars" }, hidden(`${shown} of ${number(high)} stars`));
  if (high > 5 || high < 1 || !Number.isInteger(high)) {
    box.append(el("span", { "aria-hidden": "true" }, el("span", { class: "star" }, "\u2605"), ` ${shown} of ${number(high)}`));
    return box;
  }
  const full = el("span", { class: "full" }, "\u2605".repeat(high));
  full.style.width = `${Math.max(0, Math.min(100, (100 * value) / high))}%`;
  const glyphs = el("span", { class: "glyphs" }, el("span", { class: "none" }, "\u2605".repeat(high)), full);
  box.append(el("span", { "aria-hidden": "true" }, glyphs, el("span", { class: "value" }, shown)));
  return box;
}

/** Make a table: head and rows of texts or elements; the first cell of a row names it. */
function table(caption, head, rows) {
  const cell = (content, place) => el(place ? "td" : "th", { scope: place ? null : "row", class: place ? "n" : null }, content);
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    el("table", null,
      el("caption", { class: "visually-hidden" }, caption),
      el("thead", null, el("tr", null, head.map((text, place) => el("th", { scope: "col", class: place ? "n" : null }, text)))),
      el("tbody", null, rows.map((row) => el("tr", null, row.map(cell))))));
}

/** Fold something under a line that can be opened. */
function folded(line, ...content) {
  return el("details", null, el("summary", null, line), ...content);
}

/** Say that there is nothing, and what to do. */
function empty(heading, ...text) {
  return el("div", { class: "empty" }, el("p", { class: "lead" }, heading), text.length ? el("p", null, ...text) : null);
}
