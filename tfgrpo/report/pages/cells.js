"use strict";
/* Cells, from the page's data to nodes. Texts become text nodes; nothing else is made of them. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const SHAPES = "http://www.w3.org/2000/svg";
const SYMBOLS = new Map([["good", "✓ "], ["bad", "✕ "]]);
const LINKS_IN_A_CELL = 6;
const WHOLE = new Intl.NumberFormat("en");
const PARTS = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

const el = (tag, attributes = {}, ...children) =>
  filled(document.createElement(tag), attributes, children);

const shape = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS(SHAPES, tag), attributes, children);

/* A text of models or users: its own direction cannot turn what stands around it. */
const told = (tag, style, text) => el(tag, { class: style, dir: "auto" }, text);

const noted = (text) => (text ? [told("p", "note", text)] : []);

const said = (index) => DATA.strings[index];

const short = (text, most) => (text.length > most ? `${text.slice(0, most)}…` : text);

const tableOf = (key) => (Object.hasOwn(DATA.tables, key) ? DATA.tables[key] : null);

const toneOf = ({ tones }, text) => (Object.hasOwn(tones, text) ? tones[text] : "plain");

const address = (key, index) => `#${key}/${encodeURIComponent(said(index))}`;

const exactly = (digits) =>
  new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

function figure(value, signed = false, digits = null) {
  if (value === null) return "?";
  const sign = value < 0 ? "−" : signed && value > 0 ? "+" : "";
  const size = Math.abs(value);
  if (digits !== null) return sign + exactly(digits).format(size);
  if (size > 0 && size < 0.005) return sign + size.toPrecision(1);
  return sign + (Number.isInteger(size) ? WHOLE : PARTS).format(size);
}

function moment(seconds) {
  const date = new Date(1000 * seconds);
  if (Number.isNaN(date.getTime())) return `${seconds} s`;
  return date.toISOString().slice(0, 16).replace("T", " ");
}

function interval([value, low, high], signed, digits) {
  const [middle, ...ends] = [value, low, high].map((x) => figure(x, signed, digits));
  return `${middle} [${ends.join(", ")}]`;
}

/* A cell as a string, for the search and for labels. */
function plain(column, cell) {
  if (cell === null) return column.absent;
  switch (column.kind) {
    case "number": return figure(cell, column.signed, column.digits);
    case "time": return moment(cell);
    case "estimate": return interval(cell, column.signed, column.digits);
    case "links": return cell.map((link) => link.map(said).join(" ")).join(" ");
    default: return said(cell);
  }
}

/* A cell as something to sort by; absent ones are null. */
function rank(column, cell) {
  if (cell === null) return null;
  switch (column.kind) {
    case "number": case "time": return cell;
    case "estimate": return cell[0];
    case "links": return cell.length;
    default: return said(cell).toLowerCase();
  }
}

/* Where the row of a key stands in its table. */
const places = new Map(Object.entries(DATA.tables).map(([key, { rows }]) =>
  [key, new Map(rows.map((row, i) => [row[0], i]))]));

const placeOf = (key, index) => places.get(key).get(index);

/* What speaks for a row: its title, or the first text that it has. */
function headline(key, i) {
  const { title, columns, rows } = tableOf(key);
  const has = (c) => rows[i][c + 1] !== null;
  const c = has(title) ? title : columns.findIndex(({ kind }, n) => kind === "text" && has(n));
  return c < 0 ? "" : plain(columns[c], rows[i][c + 1]);
}

function tag(column, text) {
  const tone = toneOf(column, text);
  return told("span", `tag ${tone}`, (SYMBOLS.get(tone) || "") + short(text, 80));
}

/* A link to a row; with what speaks for it, if there is room. */
function chip(key, [index, note], wide) {
  const i = placeOf(key, index);
  const spoken = i === undefined ? "" : headline(key, i);
  const label = short(spoken, 200);
  const parts = [el("bdi", {}, short(said(index), 80))];
  if (wide && label && spoken !== said(index)) parts.push(told("span", "of", label));
  if (note !== undefined) parts.push(told("span", "how", short(said(note), 80)));
  return i === undefined
    ? el("span", { class: "chip gone", title: "not on this page" }, ...parts)
    : el("a", { class: "chip", href: address(key, index), title: label }, ...parts);
}

function chips(key, links) {
  const shown = links.slice(0, LINKS_IN_A_CELL);
  const made = shown.map(([index]) => chip(key, [index], links.length === 1));
  const left = links.length - shown.length;
  if (left) made.push(told("span", "more", `+${left}`));
  return el("div", { class: "chips" }, ...made);
}

/* An interval as a line, on a scale that has 0 in the middle and is shared with its neighbours. */
function whisker([value, low, high], reach) {
  const at = (x) => 40 + 38 * Math.max(-1, Math.min(1, x / (reach || 1)));
  const made = shape("svg", { class: "whisker", viewBox: "0 0 80 12", "aria-hidden": "true" },
    shape("line", { class: "zero", x1: 40, x2: 40, y1: 1, y2: 11 }));
  if (low !== null && high !== null) {
    made.append(shape("line", { class: "reach", x1: at(low), x2: at(high), y1: 6, y2: 6 }));
  }
  if (value !== null && Math.abs(value) > reach) {
    const edge = at(value);
    const back = edge - 5 * Math.sign(value);
    made.append(shape("polygon", { points: `${edge},6 ${back},2 ${back},10` }));
  } else if (value !== null) {
    made.append(shape("circle", { cx: at(value), cy: 6, r: 3 }));
  }
  return made;
}

const reaches = new Map();

/* How far a scale has to reach; a single cell far beyond all others would squeeze them flat. */
function farthest(cells) {
  const ends = cells.map((cell) => Math.max(0, ...(cell || []).slice(0, 3).map(Math.abs)));
  const [first = 0, second = 0] = ends.sort((a, b) => b - a);
  return ends.length > 3 && first > 2 * second && second > 0 ? second : first;
}

/* The largest value of the rows that share a scale with row `i`. */
function reachOf(key, c, i) {
  const { columns, rows } = tableOf(key);
  const { scale } = columns[c];
  const group = (row) => (scale === null ? null : row[scale + 1]);
  const name = `${key}/${c}/${group(rows[i])}`;
  if (!reaches.has(name)) {
    const alike = rows.filter((row) => group(row) === group(rows[i]));
    reaches.set(name, farthest(alike.map((row) => row[c + 1])));
  }
  return reaches.get(name);
}

function estimate(key, c, i) {
  const { signed, digits } = tableOf(key).columns[c];
  const cell = tableOf(key).rows[i][c + 1];
  const text = told("span", "figure", interval(cell, signed, digits));
  return signed ? el("span", { class: "estimate" }, whisker(cell, reachOf(key, c, i)), text) : text;
}

/* Column `c` of row `i` as it stands in a table: on few lines. */
function brief(key, c, i) {
  const column = tableOf(key).columns[c];
  const cell = tableOf(key).rows[i][c + 1];
  if (cell === null) return told("span", "absent", column.absent);
  switch (column.kind) {
    case "tag": return tag(column, said(cell));
    case "text": return told("div", "clip", short(said(cell), 600));
    case "estimate": return estimate(key, c, i);
    case "links": return chips(column.to, cell);
    default: return told("span", column.kind, short(plain(column, cell), 200));
  }
}

/* A text in full, with a note if it was cut. */
function whole(index) {
  const made = el("div", {}, told("pre", "whole", said(index)));
  const length = DATA.cut[index];
  if (length !== undefined) {
    const note = `Cut: the first ${figure(DATA.limit)} of ${figure(length)} characters.`;
    made.append(told("p", "cut", note));
  }
  return made;
}
