/* Changes: what differs between two states of a set of named texts. */

const MOST_PAIRS = 1e6; /* of words that are compared; beyond, a text counts as replaced */

/* The words of two texts as [kept | dropped | new, words]: a longest common subsequence. */
function wordwise(before, after) {
  const [a, b] = [before.split(/(\s+)/), after.split(/(\s+)/)];
  if (a.length * b.length > MOST_PAIRS) return [["del", before], ["ins", after]];
  const best = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      best[i][j] = a[i] === b[j] ? best[i + 1][j + 1] + 1
        : Math.max(best[i + 1][j], best[i][j + 1]);
    }
  }
  const parts = [];
  const add = (name, word) => {
    if (parts.length && parts.at(-1)[0] === name) parts.at(-1)[1] += word;
    else parts.push([name, word]);
  };
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    const dropped = j >= b.length || (i < a.length && best[i + 1][j] >= best[i][j + 1]);
    if (i < a.length && j < b.length && a[i] === b[j]) { add("span", a[i++]); j++; }
    else if (dropped) add("del", a[i++]);
    else add("ins", b[j++]);
  }
  return parts;
}

function changes(block, from, to) {
  const [before, after] = [new Map(block.states[from][1]), new Map(block.states[to][1])];
  const line = (style, sign, key, ...parts) => el("li", { class: style },
    told("span", "sign", sign), chip(block.table, [key], false),
    el("span", { dir: "auto" }, ...parts));
  const fresh = [...after].filter(([key]) => !before.has(key))
    .map(([key, text]) => line("added", "+", key, said(text)));
  const gone = [...before].filter(([key]) => !after.has(key))
    .map(([key, text]) => line("removed", "−", key, said(text)));
  const moved = [...after].filter(([key, text]) => before.has(key) && before.get(key) !== text)
    .map(([key, text]) => line("changed", "±", key,
      ...wordwise(said(before.get(key)), said(text)).map(([name, words]) => el(name, {}, words))));
  const same = after.size - fresh.length - moved.length;
  const count = [`${fresh.length} added`, `${moved.length} changed`, `${gone.length} removed`,
    `${same} the same`].join(", ");
  return [told("p", "count", count), el("ul", { class: "changes" }, ...fresh, ...moved, ...gone)];
}

function compare(block, asked, view) {
  const last = block.states.length - 1;
  const chosen = (name, usual) => {
    const given = asked.has(name) ? Number(asked.get(name)) : usual;
    return Number.isInteger(given) && given >= 0 && given <= last ? given : usual;
  };
  const body = el("div");
  const show = () => body.replaceChildren(...changes(block, chosen("from", 0), chosen("to", last)));
  const pick = (name, usual) => {
    const made = el("select", { name }, ...block.states.map(([label], i) =>
      el("option", { value: i, selected: i === chosen(name, usual) }, label)));
    made.addEventListener("change", () => { keep(asked, name, made.value, view); show(); });
    return el("label", {}, el("span", {}, name), made);
  };
  show();
  const form = el("form", { class: "controls" }, pick("from", 0), pick("to", last));
  return el("section", {}, form, body);
}
