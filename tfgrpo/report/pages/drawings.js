/* Findings, which are sentences with their intervals, and figures that were drawn elsewhere. */

const pictures = new Map();

/* One image for each figure, kept: a print shows only what is already loaded. */
function picture(block) {
  if (!pictures.has(block)) {
    const inline = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(block.svg)}`;
    pictures.set(block, el("img", { src: inline, alt: block.alt, decoding: "sync" }));
  }
  return pictures.get(block);
}

function drawing(block) {
  const frame = { class: "panel", tabindex: "0", role: "group", "aria-label": block.title };
  return el("figure", { class: "drawing" }, el("h2", {}, block.title),
    el("div", frame, picture(block)), el("figcaption", { dir: "auto" }, block.note));
}

/* One interval behind a finding; `reach` is the largest of those with the same label. */
function mark([label, cell, word, tone, digits], reach) {
  const verdict = word ? tag({ tones: { [word]: tone } }, word) : "";
  return el("li", {}, told("span", "name", label), whisker(cell, reach),
    told("span", "figure", interval(cell, true, digits)), el("span", {}, verdict));
}

function finding(table, [title, text, row, marks], reachOfLabel) {
  const name = el("bdi", {}, title);
  const head = row === null ? name : el("a", { href: address(table, row) }, name);
  const lines = marks.map((line) => mark(line, reachOfLabel(line[0])));
  return el("section", { class: "finding" }, el("h3", {}, head), told("p", "", text),
    el("ul", { class: "marks" }, ...lines));
}

function findings(block) {
  const marks = block.items.flatMap(([, , , lines]) => lines);
  const reach = new Map(marks.map(([label]) =>
    [label, farthest(marks.filter((line) => line[0] === label).map((line) => line[1]))]));
  const cards = block.items.map((item) => finding(block.table, item, (label) => reach.get(label)));
  return el("section", {}, ...(block.title ? [el("h2", {}, block.title)] : []),
    ...noted(block.note), el("div", { class: "findings" }, ...cards));
}
