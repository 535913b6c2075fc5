/* The page of one row: its texts in full, what else is known of it, and what links to it. */

const BRIEF_ROWS = 25;

/* For each column of links, the rows that point at a key, with the note of the link. */
const pointers = new Map();

function pointingAt(key, c, target) {
  const name = `${key}/${c}`;
  if (!pointers.has(name)) {
    const found = new Map();
    tableOf(key).rows.forEach((data, i) => {
      for (const [to, note] of data[c + 1] || []) {
        if (!found.has(to)) found.set(to, []);
        found.get(to).push([i, note === undefined ? "" : said(note)]);
      }
    });
    pointers.set(name, found);
  }
  return pointers.get(name).get(target) || [];
}

function textsOf(key, i) {
  const { columns, rows } = tableOf(key);
  return columns.flatMap(({ kind, label }, c) => {
    const cell = rows[i][c + 1];
    if (kind !== "text" || cell === null || said(cell) === "") return [];
    return [el("section", {}, el("h3", {}, label), whole(cell))];
  });
}

function fact(key, c, i) {
  const { kind, label, hint } = tableOf(key).columns[c];
  const cell = tableOf(key).rows[i][c + 1];
  const long = kind === "word" && cell !== null;
  const value = long ? told("span", "word", said(cell)) : brief(key, c, i);
  const count = kind === "estimate" && cell ? [told("span", "how", `n = ${figure(cell[3])}`)] : [];
  return el("div", {}, el("dt", { title: hint || null }, label), el("dd", {}, value, ...count));
}

function factsOf(key, i) {
  const { columns, rows } = tableOf(key);
  const kept = columns.map((_, c) => c).filter((c) => {
    const { kind, absent } = columns[c];
    return !["text", "links"].includes(kind) && (rows[i][c + 1] !== null || absent);
  });
  return el("dl", { class: "facts" }, ...kept.map((c) => fact(key, c, i)));
}

function linksOf(key, i) {
  const { columns, rows } = tableOf(key);
  return columns.flatMap(({ kind, label, to }, c) => {
    const cell = rows[i][c + 1];
    if (kind !== "links" || !cell || !cell.length) return [];
    const links = cell.map((link) => el("li", {}, chip(to, link, true)));
    return [el("section", {}, el("h3", {}, label), el("ul", { class: "links" }, ...links))];
  });
}

/* The rows of one table that point here through its column `c`. */
function back(key, c, found) {
  const { noun, columns } = tableOf(key);
  const shown = listed(key, found.map(([i]) => i), true).filter((other) => other !== c);
  const heads = [noun, ...shown.map((other) => columns[other].label)];
  if (found.some(([, note]) => note)) heads.push("how");
  const body = el("tbody");
  const more = growing(body, found, ([i, note]) => row(key, i, shown, note), BRIEF_ROWS, false);
  const head = el("tr", {}, ...heads.map((label) => el("th", { scope: "col" }, label)));
  return el("section", {}, el("h3", {}, `${columns[c].back} (${figure(found.length)})`),
    el("div", { class: "wide" }, el("table", { class: "rows" }, el("thead", {}, head), body)),
    more);
}

function backsOf(key, i) {
  const target = tableOf(key).rows[i][0];
  const made = [];
  for (const [other, { columns }] of Object.entries(DATA.tables)) {
    columns.forEach((column, c) => {
      const found = column.to === key && column.back ? pointingAt(other, c, target) : [];
      if (found.length) made.push(back(other, c, found));
    });
  }
  return made;
}

/* The view that lists a table, if there is one. */
const viewOf = (key) => DATA.views.find(({ blocks }) =>
  blocks.some(({ kind, table }) => kind === "listing" && table === key));

/* Before and after this row, in the order of the list that one came from. */
function pager(key, i) {
  const { noun, rows } = tableOf(key);
  const known = lastList.key === key && lastList.order.includes(i);
  const order = known ? lastList.order : rows.map((_, n) => n);
  const at = order.indexOf(i);
  const step = (n, label, rel) => (n < 0 || n >= order.length ? told("span", "gone", label)
    : el("a", { rel, href: address(key, rows[order[n]][0]) }, label));
  const view = viewOf(key);
  const home = known ? lastList.address : view ? `#${view.key}` : null;
  return el("p", { class: "pager" },
    ...(home ? [el("a", { class: "up", href: home }, `All ${noun}s`)] : []),
    step(at - 1, "← before", "prev"),
    el("span", {}, `${figure(at + 1)} of ${figure(order.length)}`),
    step(at + 1, "after →", "next"));
}

function rowPage(key, i) {
  const { noun, rows } = tableOf(key);
  const name = el("bdi", {}, said(rows[i][0]));
  const title = el("h2", { class: "view", tabindex: "-1" }, `${noun} `, name);
  return [pager(key, i), title, el("article", {},
    ...textsOf(key, i), factsOf(key, i), ...linksOf(key, i), ...backsOf(key, i))];
}
