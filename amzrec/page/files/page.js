"use strict";
// The page of the service: a customer, a new customer, and the model, each an address behind #.

const main = document.getElementById("main");
const said = document.getElementById("said");
const NOBODY = `page-${Array.from(crypto.getRandomValues(new Uint32Array(3)), (n) => n.toString(36)).join("")}`;  // an id that nobody has
const SORTS = [["retrieval", "best match"], ["stars", "predicted stars"], ["blend", "both"]];
const FIRST = 20, WAIT = 150;  // reviews that are shown at first; milliseconds after a key
let most = 10;  // products in a list
let scale = null;  // ends of the scale of stars
let shown = 0;  // number of the view that is shown: what arrives for an earlier one is thrown away
let picks = [];  // products of the new customer: {product_id, title, stars}
let sort = "retrieval";

function say(text) {
  said.textContent = text;
}

// --- asking the service

class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(route, body, signal) {
  const headers = {}, token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    // beside the page, also behind a proxy that gives it a folder
    response = await fetch(`.${route}`, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The service does not answer. Is it still running?");
  }
  const text = await response.text();
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Refused(response.status, `The answer of the service cannot be read (status ${response.status}).`);
  }
  if (!response.ok) throw new Refused(response.status, found.error || `status ${response.status}`);
  return found;
}

function found_by(route, options) {
  return `${route}?${new URLSearchParams(options)}`;
}

/** Fill an element with what is asked for: first a shimmer, then the answer, or the problem and a way to go on. */
async function fill(into, work) {
  const mine = shown;
  into.setAttribute("aria-busy", "true");
  into.replaceChildren(waiting());
  try {
    const content = await work();
    if (mine === shown) into.replaceChildren(...[content].flat());
  } catch (error) {
    if (error.name === "AbortError" || mine !== shown) return;
    if (error.status === 401) {
      ask_token();
      return;
    }
    into.replaceChildren(problem(error, () => fill(into, work)));
  } finally {
    if (mine === shown) into.removeAttribute("aria-busy");
  }
}

function waiting() {
  return el("div", { class: "waiting", "aria-hidden": "true" }, [0, 1, 2, 3].map(() => el("span")));
}

function problem(error, again) {
  return el("div", { class: "problem", role: "alert" },
    el("p", { class: "lead" }, error.status === 404 ? "Not found" : "This could not be answered"),
    el("p", null, name_of(error.message)),
    el("button", { type: "button", click: again }, "Try again"));
}

function ask_token() {
  shown++;
  const wrong = sessionStorage.getItem("token") !== null;
  sessionStorage.removeItem("token");
  const input = el("input", { id: "token", type: "password", autocomplete: "off", required: true, "aria-describedby": "token-hint" });
  const enter = (event) => {
    event.preventDefault();
    if (!/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(input.value)) {
      ask_token();
      return;
    }
    sessionStorage.setItem("token", input.value);
    show();
  };
  main.replaceChildren(
    el("h1", { tabindex: "-1" }, "This service asks for a token"),
    el("form", { class: "card", submit: enter },
      wrong ? el("p", { class: "problem", role: "alert" }, "That was not the token of this service.") : null,
      el("div", { class: "field" }, el("label", { for: "token" }, "Token"), input, el("p", { class: "hint", id: "token-hint" }, "What stands behind --token. It is kept until this tab is closed.")),
      el("button", { class: "main", type: "submit" }, "Go on")));
  input.focus();
}

// --- a field that finds while one types (ARIA 1.2, editable combobox with list)

function finder({ id, label, hint, find, line, choose, typed }) {
  let entries = [], active = -1, timer = 0, request = null;
  const below = el("p", { class: "hint", id: `${id}-hint` }, hint);
  const list = el("ul", { class: "options", role: "listbox", id: `${id}-list`, "aria-label": label, hidden: true });
  const input = el("input", {
    id, type: "text", role: "combobox", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: 1000, "aria-autocomplete": "list",
    "aria-expanded": "false", "aria-controls": `${id}-list`, "aria-describedby": `${id}-hint`,
    input: () => {
      clearTimeout(timer);
      timer = setTimeout(look, WAIT);
      below.textContent = hint;
      below.classList.remove("bad");
      entries = [];  // what is listed is for what was typed before
      mark(-1);
    },
    click: () => { if (list.hidden) look(); },
    blur: () => { clearTimeout(timer); if (request) request.abort(); close(); },
    keydown: (event) => {
      if (event.isComposing) return;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        if (list.hidden) look();
        else mark(event.key === "ArrowDown" ? active + 1 : Math.max(active, 0) - 1);
      } else if (event.key === "Escape") {
        if (list.hidden) input.value = "";
        close();
      } else if (event.key === "Enter") {
        event.preventDefault();
        clearTimeout(timer);
        if (!list.hidden && active >= 0) pick(entries[active]);
        else if (input.value) {
          const text = input.value;
          done();
          typed(text, (message) => {
            below.textContent = seen(message);
            below.classList.add("bad");
            say(seen(message));
            if (!input.value) input.value = text;
          });
        }
      }
    },
  });

  async function look() {
    if (request) request.abort();
    request = new AbortController();
    const mine = request, text = input.value;
    try {
      const found = await find(text, mine.signal);
      if (mine === request && document.activeElement === input) open(found, text);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 401) ask_token();
      else { close(); say(error.message); }
    }
  }
  function open(found, text) {
    entries = found;
    active = -1;
    input.removeAttribute("aria-activedescendant");
    list.replaceChildren(...entries.map((entry, i) => el("li", { role: "option", id: `${id}-${i}`, "aria-selected": "false", mousedown: (event) => { event.preventDefault(); pick(entry); } }, line(entry))));
    if (!entries.length && text) list.append(el("li", { role: "option", "aria-disabled": "true", "aria-selected": "false", class: "none" }, "Nothing begins so"));
    list.hidden = !list.children.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    if (text) say(few(entries.length, "suggestion"));
  }
  function close() {
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }
  function mark(next) {
    active = entries.length ? (next + entries.length) % entries.length : -1;
    [...list.children].forEach((child, i) => child.setAttribute("aria-selected", String(i === active)));
    if (active < 0) {
      input.removeAttribute("aria-activedescendant");
      return;
    }
    input.setAttribute("aria-activedescendant", `${id}-${active}`);
    list.children[active].scrollIntoView({ block: "nearest" });
  }
  function done() {
    clearTimeout(timer);
    if (request) request.abort();
    input.value = "";
    close();
  }
  function pick(entry) {
    done();
    choose(entry);
  }
  return el("div", { class: "field" }, el("label", { for: id }, label), input, list, below);
}

// --- a list of recommendations

/** Say in words why a product is in the list, from the terms of its score. */
function reason(explained) {
  const terms = explained.history.filter((term) => term.term > 0).slice(0, 2);
  const lift = explained.popularity - explained.average_popularity;
  const personal = explained.score - explained.popularity;
  if (explained.answered_from === "popularity") return ["Popular with everyone"];
  if (!terms.length) return [lift > personal ? "Popular" : explained.customer > 0 ? "Fits this customer\u2019s taste" : "Popular"];
  const voted = terms.filter((term) => term.vote > term.vector), meant = voted.length ? voted : terms;
  const titles = meant.flatMap((term, i) => [i ? " and " : "", title_of(term)]);
  const because = voted.length ? [explained.in_order ? "often follows " : "often chosen with ", ...titles] : ["because of ", ...titles];
  const said_first = lift > personal && lift > 0 ? ["popular, and ", ...because] : because;
  return [heading(said_first[0]), ...said_first.slice(1)];
}

function listing(answer, question) {
  if (!answer.recommendations.length) return empty("Nothing is left to recommend", "All products are reviewed or picked already.");
  const whys = new Map();
  const list = el("ol", { class: "products" }, answer.recommendations.map((entry) => {
    const why = el("p", { class: "why" });
    whys.set(entry.product_id, why);
    return product_line(entry, why);
  }));
  explain(answer, question, whys);
  return list;
}

async function explain(answer, question, whys) {
  const asked = answer.recommendations.map((entry) => ({ customer_id: question.customer_id, product: entry.product_id, k: Math.min(5, most), liked: question.liked || [] }));
  try {
    for (const found of await ask("/explain", asked)) whys.get(found.product_id).replaceChildren(...reason(found));
  } catch {
    // a list without reasons is still a list
  }
}

let lists = 0;
function product_line(entry, why) {
  const id = `similar-${++lists}`;
  const below = el("div", { class: "similar", id, hidden: true });
  const button = el("button", { type: "button", "aria-expanded": "false", "aria-controls": id, click: () => {
    const open = below.hidden;
    below.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    if (open && !below.childElementCount) fill(below, async () => {
      const found = await ask("/similar", { product: entry.product_id, k: Math.min(5, most) });
      if (!found.similar.length) return empty("Nothing is like it");
      return [el("p", { class: "label" }, "Most like it"), el("ol", null, found.similar.map((each) => el("li", null, title_of(each))))];
    });
  } }, "Similar", hidden(" to "), el("span", { class: "visually-hidden" }, title_of(entry)));
  return el("li", null,
    el("span", { class: "rank" }, hidden("Rank "), String(entry.rank)),
    el("p", { class: "name" }, title_of(entry)), entry.stars === undefined ? null : stars(entry.stars, scale, 1), why, button, below);
}

function sorter(changed) {
  const select = el("select", { id: "sort", change: () => { sort = select.value; changed(); } }, SORTS.map(([value, text]) => el("option", { value, selected: value === sort }, text)));
  return el("span", { class: "choice" }, el("label", { for: "sort" }, "Order by"), select);
}

// --- the views

function customer_finder() {
  return finder({
    id: "customer", label: "Find a customer", hint: "The beginning of an id; Enter takes it as it is typed.",
    find: async (q, signal) => (await ask(found_by("/customers", { q, k: Math.min(8, most) }), null, signal)).customers,
    line: (entry) => [name_of(entry.customer_id), el("span", { class: "quiet" }, few(entry.reviews, "review"))],
    choose: (entry) => go("customer", entry.customer_id),
    typed: (text) => go("customer", text),
  });
}

function show_customer(id) {
  if (id === undefined) {
    const some = el("div");
    main.replaceChildren(el("h1", { tabindex: "-1" }, "Whom is it for?"), customer_finder(), some);
    fill(some, async () => {
      const found = (await ask(found_by("/customers", { q: "", k: Math.min(8, most) }))).customers;
      const box = empty("Choose a customer to see what they like, and what comes next", found.length ? "Some customers of this run:" : "This run knows no customers: try a new customer.");
      box.append(el("p", { class: "chips" }, found.map((entry) => el("button", { type: "button", click: () => go("customer", entry.customer_id) }, name_of(entry.customer_id)))));
      return box;
    });
    return "Customer";
  }
  const about = el("p", { class: "quiet" }), recommended = el("div"), past = el("div");
  const question = () => ({ customer_id: id, k: most, sort });
  const recommend = () => fill(recommended, async () => {
    const answer = await ask("/recommend", question());
    say(few(answer.recommendations.length, "recommendation"));
    return listing(answer, question());
  });
  main.replaceChildren(
    el("div", { class: "person" }, el("div", null, el("h1", { tabindex: "-1" }, "Customer ", name_of(id)), about), customer_finder()),
    el("div", { class: "columns" },
      el("section", { class: "card", "aria-labelledby": "recommended" }, el("div", { class: "head" }, el("h2", { id: "recommended" }, "Recommended"), sorter(recommend)), recommended),
      el("section", { class: "card", "aria-labelledby": "past" }, el("h2", { id: "past" }, "History"), past)));
  recommend();
  fill(past, async () => {
    let found;
    try {
      found = await ask("/customers", { customer_id: id });
    } catch (error) {
      if (error.status !== 404) throw error;
      about.replaceChildren(el("span", { class: "badge" }, "not known"), " Neither the run nor the events know this customer: the most popular products are recommended.");
      return empty("No history", "Pick some products for ", el("a", { href: "#/new" }, "a new customer"), " to see what follows.");
    }
    about.replaceChildren(el("span", { class: "badge" }, { model: "answered from the model", events: "answered from events", popularity: "answered from popularity" }[found.answered_from] || found.answered_from), ` ${few(found.history.length, "review")}${found.events.length ? ` and ${few(found.events.length, "event")} since` : ""}`);
    return history_of(found);
  });
  return `Customer ${seen(id)}`;
}

function history_of(found) {
  const line = (entry) => el("li", null, title_of(entry), entry.stars === undefined ? el("span", { class: "quiet" }, entry.kind || "no stars") : stars(entry.stars, scale, Number.isInteger(entry.stars) ? 0 : 1));
  const parts = [];
  if (found.events.length) parts.push(el("h3", null, "Since the training"), el("ul", { class: "past" }, [...found.events].reverse().slice(0, FIRST).map(line)), found.history.length ? el("h3", null, "Reviews") : null);
  const reviews = [...found.history].reverse();  // the latest first
  const list = el("ul", { class: "past" }, reviews.slice(0, FIRST).map(line));
  if (reviews.length) parts.push(list);
  if (reviews.length > FIRST) {
    const more = el("button", { type: "button", click: () => {
      const added = reviews.slice(FIRST).map(line);
      list.append(...added);
      more.remove();
      added[0].tabIndex = -1;
      added[0].focus();
    } }, `Show all ${number(reviews.length)}`);
    parts.push(more);
  }
  if (!parts.length) return empty("No history", "This customer has no reviews in the run.");
  return parts.filter(Boolean);
}

function show_new() {
  const chosen = el("div"), answers = el("div");
  let turn = 0;

  function pick(product) {
    if (picks.some((each) => each.product_id === product.product_id)) {
      say("That product is picked already");
      return;
    }
    picks.push({ ...product, stars: null });
    changed();
  }
  function line(product) {
    const id = `pick-${product.product_id.length}-${picks.indexOf(product)}`;
    const given = [];
    if (scale && scale[1] - scale[0] <= 20) for (let s = Math.floor(scale[1]); s >= scale[0]; s--) given.push(s);
    const select = el("select", { id, change: () => { product.stars = select.value === "" ? null : Number(select.value); answer(); } },
      el("option", { value: "" }, "likes it"), given.map((s) => el("option", { value: s, selected: product.stars === s }, `\u2605 ${s}`)));
    return el("li", null, title_of(product),
      given.length ? el("span", { class: "choice" }, el("label", { class: "visually-hidden", for: id }, "Stars for ", title_of(product)), select) : el("span"),
      el("button", { type: "button", class: "bare", click: () => { picks = picks.filter((each) => each !== product); changed(); document.getElementById("product").focus(); } }, "Remove", hidden(" "), el("span", { class: "visually-hidden" }, title_of(product))));
  }
  function changed() {
    chosen.replaceChildren(picks.length ? el("ul", { class: "picks" }, picks.map(line)) : "");
    answer();
  }
  async function answer() {
    const mine = ++turn;
    if (!picks.length) {
      fill(answers, async () => {
        const some = (await ask(found_by("/products", { q: "", k: Math.min(6, most) }))).products;
        const box = empty("Pick what the customer likes", some.length ? "Answers come with the first product. Reviewed most:" : "This run has no products.");
        box.append(el("p", { class: "chips" }, some.map((product) => el("button", { type: "button", click: () => pick(product) }, title_of(product)))));
        return mine === turn ? box : answers.firstChild;
      });
      return;
    }
    const question = { customer_id: NOBODY, k: most, sort, liked: picks.map((p) => (p.stars === null ? { product_id: p.product_id } : { product_id: p.product_id, stars: p.stars })) };
    const view = shown;
    answers.setAttribute("aria-busy", "true");
    if (!answers.querySelector(".products")) answers.replaceChildren(waiting());
    try {
      const found = await ask("/recommend", question);
      if (mine !== turn || view !== shown) return;
      answers.replaceChildren(listing(found, question));
      say(`${few(found.recommendations.length, "recommendation")} for ${few(picks.length, "product")}`);
    } catch (error) {
      if (mine !== turn || view !== shown) return;
      if (error.status === 401) return ask_token();
      answers.replaceChildren(problem(error, answer));
    }
    answers.removeAttribute("aria-busy");
  }
  main.replaceChildren(
    el("h1", { tabindex: "-1" }, "A new customer"),
    el("p", { class: "quiet" }, "Somebody nobody knows: what they like is all that the answers are made from. Nothing is stored."),
    el("div", { class: "columns asked" },
      el("section", { class: "card", "aria-labelledby": "likes" }, el("h2", { id: "likes" }, "Likes"),
        finder({
          id: "product", label: "Add a product", hint: "The beginning of a title, or an id.",
          find: async (q, signal) => (await ask(found_by("/products", { q, k: Math.min(8, most) }), null, signal)).products,
          line: (entry) => [title_of(entry)],
          choose: pick,
          typed: async (text, refused) => {
            try {
              const found = await ask("/similar", { product: text, k: 1 });
              pick({ product_id: found.product_id, title: found.title });
            } catch (error) {
              if (error.status === 401) ask_token();
              else refused(error.message);
            }
          },
        }), chosen),
      el("section", { class: "card", "aria-labelledby": "recommended" }, el("div", { class: "head" }, el("h2", { id: "recommended" }, "Recommended"), sorter(() => answer())), answers)));
  changed();
  return "A new customer";
}

function show_model() {
  const box = el("div", { class: "model" });
  main.replaceChildren(box);
  fill(box, async () => {
    const runs = (await ask("/run")).runs;
    const draw = async (run) => {
      const drawn = el("div", { class: "model" });
      draw_model(drawn, await ask(found_by("/model", { run })));
      return drawn;
    };
    const first = await draw(runs[0].run);
    if (runs.length === 1) return [...first.childNodes];
    const below = el("div", { class: "model" }, ...first.childNodes);
    const select = el("select", { id: "run", change: () => fill(below, async () => [...(await draw(select.value)).childNodes]) }, runs.map((each) => el("option", { value: each.run }, `${seen(each.run)} (${percent(each.share, 0)} of customers)`)));
    return [el("p", { class: "choice" }, el("label", { for: "run" }, "Run"), select), below];
  });
  return "Model";
}

// --- addresses

function go(view, id) {
  const address = `#/${view}${id === undefined ? "" : `/${encodeURIComponent(id)}`}`;
  if (location.hash === address) show();
  else location.hash = address;
}

function where() {
  const [, view, rest] = location.hash.match(/^#\/(customer|new|model)(?:\/(.*))?$/) || [null, "customer"];
  try {
    return [view, rest ? decodeURIComponent(rest) : undefined];
  } catch {
    return [view, rest];
  }
}

async function show(event) {
  const mine = ++shown;
  const [view, id] = where();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!(await greet(mine))) return;
  const title = { customer: () => show_customer(id), new: show_new, model: show_model }[view]();
  document.title = `${title} \u00b7 amzrec`;
  if (event) (main.querySelector("h1") || main).focus();
}

/** Ask which runs answer, once per view: the scale of stars may be another after a reload of the run. */
async function greet(mine) {
  try {
    const found = await ask("/run"), runs = found.runs;
    if (mine !== shown) return false;
    scale = runs[0].stars;
    most = Math.min(10, found.most_k);
    document.getElementById("served").replaceChildren("Run ", el("strong", null, name_of(runs.map((each) => each.run).join(", "))));
    return true;
  } catch (error) {
    if (mine !== shown) return false;
    if (error.status === 401) ask_token();
    else main.replaceChildren(el("h1", { tabindex: "-1" }, "amzrec"), problem(error, () => show()));
    return false;
  }
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();  // the address behind # names the view
  main.focus();
});
window.addEventListener("hashchange", show);
show();
