/* Figures: bars, and a map of points. */

const SMALL = innerWidth < 768;
const FRAME = { width: SMALL ? 420 : 960, height: 200, left: 52, right: 20, top: 8 };
const LABEL = 150; /* units that one label below the bars needs */
const NEAR = 30; /* units of the map within which a point is meant */
const TONES = new Map([["good", "tone-good"], ["bad", "tone-bad"], ["plain", "tone-plain"]]);
const MARKS = new Map([
  ["good", "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z"],
  ["bad", "M-4,-4L4,4M-4,4L4,-4"],
  ["plain", "M-3.5,-3.5h7v7h-7z"],
]);

function legend(entries) {
  return el("ul", { class: "legend" }, ...entries.map(([name, style, mark]) => {
    const swatch = shape("svg", { viewBox: "-6 -6 12 12", "aria-hidden": "true" },
      shape("path", { class: style, d: mark }));
    return el("li", {}, swatch, el("bdi", {}, short(name, 60)));
  }));
}

const series = (tone, n) => TONES.get(tone) || `series-${n % 6}`;

/* The lines of equal height, and what they stand for. */
function levels(most) {
  return [0, 0.5, 1].flatMap((part) => {
    const y = FRAME.top + (1 - part) * (FRAME.height - FRAME.top);
    const label = (most * part).toLocaleString("en", { maximumFractionDigits: 2 });
    return [shape("line", { class: "grid", x1: FRAME.left, x2: FRAME.width, y1: y, y2: y }),
      shape("text", { class: "axis end", x: FRAME.left - 6, y: y + 4 }, label)];
  });
}

/* One bar: a rectangle for each series, from the bottom up, and the numbers on pointing at it. */
function bar(block, i, step, unit) {
  const [middle, width] = [FRAME.left + (i + 0.5) * step, Math.min(step * 0.8, 60)];
  const numbers = block.series.map(([name, , values]) => `${name}: ${figure(values[i])}`);
  const catcher = { class: "catch", x: middle - step / 2, y: 0, width: step, height: FRAME.height };
  const title = [block.labels[i], ...numbers].join("\n");
  const made = shape("g", {}, shape("title", {}, title), shape("rect", catcher));
  let y = FRAME.height;
  block.series.forEach(([, tone, values], n) => {
    if (!values[i]) return;
    const height = Math.max(unit * values[i], 1.5); /* one of a thousand is still seen */
    y -= height;
    made.append(shape("rect", { class: series(tone, n), x: middle - width / 2, y, width, height }));
  });
  return made;
}

function bars(block) {
  const { labels } = block;
  const total = (i) => block.series.reduce((sum, [, , values]) => sum + values[i], 0);
  const highest = labels.reduce((most, _, i) => Math.max(most, total(i)), 1e-9);
  const most = block.most || (highest > 2 ? 2 * Math.ceil(highest / 2) : highest);
  const step = (FRAME.width - FRAME.left - FRAME.right) / Math.max(labels.length, 1);
  const every = Math.ceil((labels.length * LABEL) / FRAME.width);
  const field = shape("svg", {
    viewBox: `0 0 ${FRAME.width} ${FRAME.height + 28}`, role: "img", "aria-label": block.title,
  }, ...levels(most));
  labels.forEach((label, i) => {
    field.append(bar(block, i, step, (FRAME.height - FRAME.top) / most));
    if (i % every) return;
    const x = FRAME.left + (i + 0.5) * step;
    field.append(shape("text", { class: "axis middle", x, y: FRAME.height + 20 }, label));
  });
  const names = block.series.map(([name, tone], n) => [name, series(tone, n), MARKS.get("plain")]);
  return el("figure", { class: "bars" }, el("figcaption", {}, block.title), field,
    ...(names.length > 1 ? [legend(names)] : []), ...noted(block.note));
}

/* The points as marks, with the place, the value and the tone that they stand for. */
function marks(block) {
  const { columns, rows } = tableOf(block.table);
  const column = columns[block.colour];
  return block.points.map(([key, x, up]) => {
    const i = placeOf(block.table, key);
    const value = plain(column, rows[i][block.colour + 1]);
    const tone = toneOf(column, value);
    const y = 0.55 * (1000 - up);
    const mark = shape("path", {
      class: `point ${TONES.get(tone)}`, d: MARKS.get(tone),
      transform: `translate(${x},${y})${SMALL ? "scale(2)" : ""}`,
    });
    return { i, x, y, mark, tone, value, on: true };
  });
}

/* The point that an event means: the nearest one, if it is near. */
function pointed(event, field, points) {
  const inward = field.getScreenCTM().inverse();
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(inward);
  let [best, least] = [null, NEAR];
  for (const point of points) {
    const far = Math.hypot(point.x - at.x, point.y - at.y);
    if (point.on && far < least) [best, least] = [point, far];
  }
  return best;
}

/* Pointing shows a card and a click opens the page; by touch, the card's own link does. */
function alive(field, points, show, open) {
  let [meant, touched] = [null, false];
  const mean = (point) => {
    if (!point || point === meant) return;
    if (meant) meant.mark.classList.remove("meant");
    meant = point;
    field.append(point.mark);
    point.mark.classList.add("meant");
    show(point.i);
  };
  field.addEventListener("pointerdown", (event) => { touched = event.pointerType !== "mouse"; });
  field.addEventListener("pointermove", (event) => mean(pointed(event, field, points)));
  field.addEventListener("click", (event) => {
    const point = pointed(event, field, points);
    mean(point);
    if (point && !touched) open(point.i);
  });
  field.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Enter" && meant) open(meant.i);
    if (!step) return;
    event.preventDefault();
    const walk = points.filter((point) => point.on).sort((a, b) => a.x - b.x);
    const from = walk.includes(meant) ? walk.indexOf(meant) : step > 0 ? -1 : 0;
    if (walk.length) mean(walk[(from + step + walk.length) % walk.length]);
  });
}

/* What stands below the map of the point that is meant. */
function card(key, i) {
  const { noun, columns, rows } = tableOf(key);
  const facts = listed(key, [i], true).filter((c) => !["links", "text"].includes(columns[c].kind))
    .map((c) => el("span", {}, told("span", "name", `${columns[c].label} `), brief(key, c, i)));
  return [el("a", { href: address(key, rows[i][0]) }, `${noun} ${said(rows[i][0])}`),
    told("div", "clip", short(headline(key, i), 600)),
    el("div", { class: "facts-line" }, ...facts)];
}

function scatter(block, asked, view) {
  const key = block.table;
  const { noun, rows } = tableOf(key);
  const points = marks(block);
  const hint = `Point at a ${noun}, or walk with the arrow keys; Enter opens it.`;
  const below = el("div", { class: "card", role: "status" }, hint);
  const field = shape("svg", {
    viewBox: "-14 -14 1028 578", tabindex: "0", role: "img",
    "aria-label": `Map of ${figure(points.length)} ${noun}s. ${hint}`,
  }, ...points.map(({ mark }) => mark));
  alive(field, points, (i) => below.replaceChildren(...card(key, i)),
    (i) => { location.hash = address(key, rows[i][0]); });
  const choose = () => {
    const kept = new Set(matching(key, asked));
    for (const point of points) {
      point.on = kept.has(point.i);
      point.mark.classList.toggle("off", !point.on);
    }
  };
  const change = (name, value) => { keep(asked, name, value, view); choose(); };
  choose();
  const names = [...new Map(points.map(({ value, tone }) => [value, tone]))]
    .map(([name, tone]) => [name, `point ${TONES.get(tone)}`, MARKS.get(tone)]);
  return el("figure", { class: "map" },
    el("form", { class: "controls" }, searchBox(asked, change, "Search the map"), legend(names)),
    field, below, ...noted(block.note));
}
