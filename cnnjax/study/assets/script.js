"use strict";
// Tables sort by the heading that is pressed: numbers by data-value, words by the alphabet, empty last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const sign = down ? -1 : 1;
      const key = (row) => row.cells[column].dataset.value;
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const [m, n] = [Number(x), Number(y)];
        if (!Number.isNaN(m) && !Number.isNaN(n)) return sign * (m - n);
        return sign * x.localeCompare(y, "en", { numeric: true });
      });
      body.append(...rows);
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  });
}
// A link to a run opens it.
const open = () => {
  const run = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (run instanceof HTMLDetailsElement) { run.open = true; run.scrollIntoView(); }
};
addEventListener("hashchange", open);
open();
