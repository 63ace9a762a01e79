// Tables of class "sortable" get a button in each header: first ascending, then descending. Equal rows keep their order,
// cells without a value stand last in both directions.
"use strict";
(() => {
  const words = new Intl.Collator("en", { numeric: true });

  function keyOf(row, column, isNumber) {
    const cell = row.cells[column];
    const text = (cell.dataset.sort ?? cell.textContent).trim();
    if (text === "" || text === "n/a") return null;
    if (!isNumber) return text;
    const number = Number(text);
    return Number.isNaN(number) ? null : number;
  }

  function compare(a, b) {
    return typeof a === "number" ? a - b : words.compare(a, b);
  }

  function sortBy(table, header) {
    const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const isNumber = header.dataset.kind === "number";
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => ({ row, key: keyOf(row, header.cellIndex, isNumber) }));
    rows.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
      return sign * compare(a.key, b.key);
    });
    body.append(...rows.map(({ row }) => row));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sortBy(table, header));
      header.append(button);
    }
  }

  // What can be scrolled sideways can be scrolled by the keyboard.
  function letScroll() {
    for (const part of document.querySelectorAll(".scroll, .sheet")) {
      if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
      else part.removeAttribute("tabindex");
    }
  }
  letScroll();
  addEventListener("load", letScroll);
  addEventListener("resize", letScroll);

  // What is folded on the screen is not on paper.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = Array.from(document.querySelectorAll("details:not([open])"));
    for (const part of folded) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of folded) part.open = false;
  });
})();
