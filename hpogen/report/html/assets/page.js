// Sorts a table by the column that is clicked, and filters its rows by what is typed. Says which
// trial a point is: under the pointer, and by Tab, the arrow keys, Home, End and Escape.
"use strict";
for (const table of document.querySelectorAll("table[id]")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent;
  const sort = (i) => {
    const up = heads[i].getAttribute("aria-sort") !== "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[i].setAttribute("aria-sort", up ? "ascending" : "descending");
    const keyed = rows.map((row) => [key(row, i), row]);
    const numeric = keyed.every(([k]) => k === "" || !Number.isNaN(Number(k)));
    const order = numeric ? (a, b) => a - b : (a, b) => a.localeCompare(b);
    keyed.sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === "");  // what is empty stays last
      return up ? order(a, b) : order(b, a);
    });
    body.replaceChildren(...keyed.map(([, row]) => row));
  };
  heads.forEach((head, i) => {
    head.addEventListener("click", () => sort(i));
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(i); }
    });
  });
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const input = document.querySelector(`[data-filters="${table.id}"]`);
  const counted = document.querySelector(`[data-counts="${table.id}"]`);
  input?.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      shown += !row.hidden;
    });
    counted.textContent = `${shown} of ${table.dataset.total} trials`;
  });
}

const texts = JSON.parse(document.querySelector("#points").dataset.points);
const tip = document.querySelector("#tip");
const hide = () => { tip.hidden = true; };
const show = (point) => {
  tip.textContent = texts[point.dataset.p];
  tip.hidden = false;
  const at = point.getBoundingClientRect();
  const right = document.documentElement.clientWidth - tip.offsetWidth - 4;
  const below = at.bottom + 8 + tip.offsetHeight < innerHeight;
  tip.style.left = `${scrollX + Math.max(4, Math.min(at.left + at.width / 2 - tip.offsetWidth / 2, right))}px`;
  tip.style.top = `${scrollY + (below ? at.bottom + 8 : at.top - 8 - tip.offsetHeight)}px`;
};
for (const chart of document.querySelectorAll("svg.chart")) {
  const place = (point) => Number(point.getAttribute("x"));
  const points = [...chart.querySelectorAll("[data-p]")].sort((a, b) => place(a) - place(b));
  points.forEach((point, i) => {
    point.setAttribute("tabindex", i ? -1 : 0);
    point.setAttribute("role", "img");
    point.setAttribute("aria-label", texts[point.dataset.p]);
    for (const on of ["pointerenter", "focus"]) point.addEventListener(on, () => show(point));
    for (const off of ["pointerleave", "blur"]) point.addEventListener(off, hide);
  });
  chart.addEventListener("keydown", (event) => {
    const i = points.indexOf(event.target);
    const to = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: points.length - 1 };
    if (i < 0) return;
    if (event.key === "Escape") hide();
    const next = points[to[event.key]];
    if (!next) return;
    event.preventDefault();
    event.target.setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
}
