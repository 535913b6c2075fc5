/* The page: which view or row the address names, `#VIEW?q=...&sort=...` or `#TABLE/KEY`. */

const MAIN = document.getElementById("main");

function tiles(block) {
  return el("dl", { class: "tiles" }, ...block.items.map(([label, value, note]) =>
    el("div", {}, el("dt", {}, label), told("dd", "", value),
      ...(note ? [told("dd", "note", note)] : []))));
}

function prose(block) {
  const text = block.exact ? whole(block.text) : told("p", "", said(block.text));
  return el("section", { class: "prose" }, el("h2", {}, block.title), text);
}

const BLOCKS = new Map([
  ["facts", tiles], ["prose", prose], ["bars", bars],
  ["listing", listing], ["scatter", scatter], ["compare", compare],
  ["figure", drawing], ["findings", findings],
]);

function viewPage(view, asked) {
  const blocks = view.blocks.map((block) => BLOCKS.get(block.kind)(block, asked, view.key));
  return [el("h2", { class: "view named", tabindex: "-1" }, view.title), ...blocks];
}

/* All views one after the other, drawn to their ends. */
function everything() {
  return DATA.views.flatMap((view) => {
    const parts = viewPage(view, new URLSearchParams());
    unfinished.splice(0).forEach((finish) => finish());
    return parts;
  });
}

function beforePrint() {
  if (DATA.whole) MAIN.replaceChildren(...everything());
  else unfinished.splice(0).forEach((finish) => finish());
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/* What the address names: the view that it belongs to, and the parts of the page. */
function named() {
  const [path, query] = location.hash.slice(1).split(/\?(.*)/s);
  const [name, ...rest] = path.split("/");
  if (!rest.length || !tableOf(name)) {
    const view = DATA.views.find(({ key }) => key === name) || DATA.views[0];
    return [view, viewPage(view, new URLSearchParams(query))];
  }
  const wanted = decoded(rest.join("/"));
  const { noun, rows } = tableOf(name);
  const i = rows.findIndex((data) => said(data[0]) === wanted);
  if (i >= 0) return [viewOf(name), rowPage(name, i)];
  const text = [`There is no ${noun} `, el("bdi", {}, short(wanted, 80)), " on this page."];
  return [viewOf(name), [el("p", {}, ...text)]];
}

function draw(moved) {
  if (location.hash === "#main") {
    MAIN.focus();
    return;
  }
  unfinished = [];
  const [view, parts] = named();
  MAIN.replaceChildren(...parts);
  for (const link of document.querySelectorAll("#nav a")) {
    if (view && link.hash === `#${view.key}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = MAIN.querySelector("h2.view");
  document.title = title ? `${title.textContent} · ${DATA.title}` : DATA.title;
  if (moved) scrollTo(0, 0);
  if (moved && title) title.focus({ preventScroll: true });
}

/* "/" goes to the search, wherever one is. */
function onKey(event) {
  const box = MAIN.querySelector("input[type=search]");
  if (event.key !== "/" || !box || event.target.closest("input, select")) return;
  event.preventDefault();
  box.focus();
  box.select();
}

function start() {
  const cut = Object.keys(DATA.cut).length;
  document.getElementById("note").textContent = DATA.note;
  if (DATA.stamps.length) {
    document.getElementById("note").after(el("ul", { class: "stamps", "aria-label": "Caveats" },
      ...DATA.stamps.map((stamp) => told("li", "", stamp))));
  }
  document.getElementById("nav").append(
    ...DATA.views.map(({ key, title }) => el("a", { href: `#${key}` }, title)));
  document.getElementById("footer").textContent = [
    "Texts on this page were written by models and users: they are shown, and nothing is run.",
    cut ? `${figure(cut)} of them are cut at ${figure(DATA.limit)} characters.` : "",
  ].join(" ");
  addEventListener("hashchange", () => draw(true));
  DATA.views.flatMap(({ blocks }) => blocks).filter(({ kind }) => kind === "figure")
    .forEach(picture);
  addEventListener("beforeprint", beforePrint);
  if (DATA.whole) addEventListener("afterprint", () => draw(false));
  addEventListener("submit", (event) => event.preventDefault());
  addEventListener("keydown", onKey);
  draw(false);
}

start();
