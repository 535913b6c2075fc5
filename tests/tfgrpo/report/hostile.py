"""Texts that try to be more than texts, and a walk through a page that would notice."""

from __future__ import annotations

PAYLOADS = (
    "<script>globalThis.ran = 1</script>",
    "</script><script>globalThis.ran = 1</script>",
    "<img src='http://127.0.0.1:PORT/img' onerror='globalThis.ran = 1'>",
    "<svg onload='globalThis.ran = 1'><use href='http://127.0.0.1:PORT/use'/></svg>",
    "<iframe srcdoc='<script>parent.ran = 1</script>'></iframe>",
    "javascript:globalThis.ran=1",
    "{{7*7}} ${7*7} #{7*7} <%= 7*7 %>",
    "\u202eright to left\u2066 שלום",
    "\x1b]8;;http://127.0.0.1:PORT/osc\x07link\x1b]8;;\x07",
    "<style>@import 'http://127.0.0.1:PORT/css'; * { display: none }</style>",
    "<!-- <script> -->",
    "'\"><b id=main>bold</b>",
)

# Goes to every view and to one row of each table, and names the kinds of elements found there.
TOUR = """(async () => {
  const rows = Object.entries(DATA.tables).flatMap(([key, { rows }]) =>
    rows.slice(0, 1).map((row) => address(key, row[0])));
  const found = {};
  for (const place of [...DATA.views.map(({ key }) => `#${key}`), ...rows]) {
    const drawn = new Promise((done) => addEventListener("hashchange", done, { once: true }));
    location.hash = place;
    await drawn;
    const all = [...document.querySelectorAll("*")].map((element) => element.localName);
    found[place] = [...new Set(all)].sort();
  }
  return found;
})()"""
