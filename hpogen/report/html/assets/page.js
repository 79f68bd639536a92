// Sorts a table by the column that is clicked, and filters its rows by what is typed.
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
