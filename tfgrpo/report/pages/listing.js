/* Listings: a table to search, filter and sort. What is asked of it stands in the address. */

const ROWS_AT_ONCE = 100;
const LARGEST_FIRST = ["number", "time", "estimate", "links"];
const SEARCHED = ["text", "tag", "word", "links"];
const haystacks = new Map();
let unfinished = []; /* what is still to be drawn before a print */
let lastList = { key: "", address: "", order: [] };

function haystack(key, i) {
  if (!haystacks.has(key)) haystacks.set(key, []);
  const kept = haystacks.get(key);
  if (kept[i] === undefined) {
    const { columns, rows } = tableOf(key);
    const searched = columns.map((_, c) => c).filter((c) => SEARCHED.includes(columns[c].kind));
    const cells = searched.map((c) => plain(columns[c], rows[i][c + 1]));
    kept[i] = [said(rows[i][0]), ...cells].join("\n").toLowerCase();
  }
  return kept[i];
}

const parameter = ({ label }) => label.toLowerCase();

const valueOf = (cell) => (cell === null ? "" : said(cell));

/* Numbers of the rows that are asked for, in the order that is asked for. */
function matching(key, asked) {
  const { columns, rows } = tableOf(key);
  const words = (asked.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = columns.map((_, c) => c).filter((c) =>
    columns[c].choice && asked.has(parameter(columns[c])));
  const fits = (i, c) => valueOf(rows[i][c + 1]) === asked.get(parameter(columns[c]));
  const found = rows.map((_, i) => i).filter((i) => chosen.every((c) => fits(i, c))
    && words.every((word) => haystack(key, i).includes(word)));
  const wanted = asked.get("sort") || "";
  const c = columns.findIndex((column) => parameter(column) === wanted.replace(/^-/, ""));
  return c < 0 ? found : sorted(key, found, c, wanted.startsWith("-") ? -1 : 1);
}

/* Absent ones come last in either direction; equal ones keep their order. */
function sorted(key, order, c, direction) {
  const { columns, rows } = tableOf(key);
  const keyed = order.map((i) => [rank(columns[c], rows[i][c + 1]), i]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * (a < b ? -1 : a > b ? 1 : 0);
  });
  return keyed.map(([, i]) => i);
}

/* Numbers of the columns that tell something of these rows: of a table's own, or of a brief one. */
function listed(key, order, everywhere) {
  const { columns, rows } = tableOf(key);
  const full = (cell) => cell !== null && !(Array.isArray(cell) && !cell.length);
  return columns.map((_, c) => c).filter((c) => {
    const { where, absent } = columns[c];
    const here = where === "everywhere" || (where === "table" && !everywhere);
    return here && (absent !== "" || order.some((i) => full(rows[i][c + 1])));
  });
}

function row(key, i, shown, how) {
  const { columns, rows } = tableOf(key);
  const to = address(key, rows[i][0]);
  const name = el("a", { href: to }, el("bdi", {}, short(said(rows[i][0]), 40)));
  const cells = shown.map((c) =>
    el("td", { "data-label": columns[c].label, class: `of-${columns[c].kind}` }, brief(key, c, i)));
  const made = el("tr", {}, el("th", { scope: "row" }, name), ...cells);
  if (how) made.append(told("td", "how", how));
  made.addEventListener("click", (event) => {
    if (!event.target.closest("a") && getSelection().isCollapsed) location.hash = to;
  });
  return made;
}

/* Rows are drawn piece by piece: on demand, or as their end comes into sight. */
function growing(body, rows, make, piece, eager) {
  let drawn = 0;
  const more = el("button", { type: "button", class: "grow" });
  const grow = (count) => {
    body.append(...rows.slice(drawn, drawn + count).map(make));
    drawn = Math.min(rows.length, drawn + count);
    more.textContent = `Show more (${figure(rows.length - drawn)} left)`;
    more.hidden = drawn === rows.length;
  };
  more.addEventListener("click", () => grow(piece));
  const look = (seen) => { if (seen.some((s) => s.isIntersecting)) grow(piece); };
  if (eager) new IntersectionObserver(look).observe(more);
  unfinished.push(() => grow(rows.length));
  grow(piece);
  return more;
}

/* Ask for a value, or with null for nothing, and keep that in the address. */
function keep(asked, name, value, view) {
  if (value === null) asked.delete(name);
  else asked.set(name, value);
  const query = asked.toString();
  history.replaceState(null, "", `#${view}${query ? `?${query}` : ""}`);
}

function heading(column, asked, change) {
  const [up, down, now] = [parameter(column), `-${parameter(column)}`, asked.get("sort")];
  const [first, second] = LARGEST_FIRST.includes(column.kind) ? [down, up] : [up, down];
  const button = el("button", { type: "button", title: column.hint || null }, column.label);
  button.addEventListener("click", () =>
    change("sort", now === first ? second : now === second ? null : first));
  const direction = now === up ? "ascending" : now === down ? "descending" : null;
  return el("th", { scope: "col", class: `of-${column.kind}`, "aria-sort": direction }, button);
}

function choice(key, c, asked, change) {
  const column = tableOf(key).columns[c];
  const name = parameter(column);
  const counts = new Map();
  for (const data of tableOf(key).rows) {
    const value = valueOf(data[c + 1]);
    counts.set(value, (counts.get(value) || 0) + 1);
  }
  /* A value has an "=" before it, so that the empty one differs from "any". */
  const options = [...counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([value, count]) =>
    el("option", { value: `=${value}`, selected: asked.get(name) === value },
      `${short(value, 60) || column.absent || "none"} (${figure(count)})`));
  const made = el("select", { name }, el("option", { value: "" }, "any"), ...options);
  made.addEventListener("change", () => change(name, made.value ? made.value.slice(1) : null));
  return el("label", {}, el("span", {}, column.label), made);
}

function searchBox(asked, change, label) {
  const box = el("input", {
    type: "search", name: "q", value: asked.get("q") || "", placeholder: label,
    "aria-label": label, autocomplete: "off", spellcheck: "false",
  });
  box.addEventListener("input", () => change("q", box.value || null));
  return box;
}

function listing(block, asked, view) {
  const key = block.table;
  const { noun, columns, rows } = tableOf(key);
  const shown = listed(key, rows.map((_, i) => i), false);
  const [count, head, body, tail] =
    [el("p", { class: "count", role: "status" }), el("thead"), el("tbody"), el("div")];
  const change = (name, value) => { keep(asked, name, value, view); show(); };
  function show() {
    const order = matching(key, asked);
    lastList = { key, address: location.hash || `#${view}`, order };
    const part = order.length < rows.length ? `${figure(order.length)} of ` : "";
    count.textContent = `${part}${figure(rows.length)} ${noun}s`;
    head.replaceChildren(el("tr", {}, el("th", { scope: "col" }, noun),
      ...shown.map((c) => heading(columns[c], asked, change))));
    body.replaceChildren();
    unfinished = [];
    tail.replaceChildren(growing(body, order, (i) => row(key, i, shown), ROWS_AT_ONCE, true));
  }
  const filters = columns.map((_, c) => c).filter((c) => columns[c].choice)
    .map((c) => choice(key, c, asked, change));
  const box = searchBox(asked, change, `Search ${figure(rows.length)} ${noun}s`);
  show();
  return el("section", { class: "listing" }, ...noted(block.note),
    el("form", { class: "controls", role: "search" }, box, ...filters), count,
    el("div", { class: "wide" }, el("table", { class: "rows" }, head, body)), tail);
}
