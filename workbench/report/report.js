// Draws the figures when they come into view, in the page's theme; sorts tables.
"use strict";
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const places = [...document.querySelectorAll(".plot")];
  const drawn = new Set();
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  let dark = prefersDark.matches;

  // A figure is stored for a light page, with [path, light, dark] of every value that differs.
  function themed(index) {
    const { figure, dark: changes } = figures[index];
    for (const [path, light, other] of changes) {
      let at = figure;
      for (const key of path.slice(0, -1)) at = at[key];
      at[path[path.length - 1]] = dark ? other : light;
    }
    return figure;
  }

  function draw(place) {
    const { data, layout } = themed(place.dataset.figure);
    drawn.add(place);
    place.querySelector("noscript")?.remove();
    const config = { responsive: true, displaylogo: false, displayModeBar: "hover" };
    return Plotly.react(place, data, { ...layout, datarevision: String(dark) }, config);
  }

  const watcher = new IntersectionObserver(
    (entries) => entries.forEach((entry) => {
      if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
    }),
    { rootMargin: "800px" },
  );
  places.forEach((place) => watcher.observe(place));

  const button = document.getElementById("theme");
  function show(isDark) {
    dark = isDark;
    root.dataset.theme = dark ? "dark" : "light";
    root.dataset.jpThemeLight = String(!dark); // what the models' cards go by
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", `Change to the ${dark ? "light" : "dark"} theme`);
    drawn.forEach(draw);
  }
  button.hidden = false;
  button.addEventListener("click", () => show(!dark));
  prefersDark.addEventListener("change", (event) => show(event.matches));
  show(dark);

  let before = null;
  addEventListener("beforeprint", () => {
    before = dark;
    show(false);
    places.filter((place) => place.offsetParent).forEach(draw);
  });
  addEventListener("afterprint", () => { if (before !== null) show(before); });

  function key(cell) {
    const text = cell ? cell.textContent : "";
    if (text === "∞") return Infinity;
    if (text === "-∞") return -Infinity;
    return text === "" ? NaN : Number(text.replaceAll(",", ""));
  }

  function sort(head) {
    const table = head.closest("table"), body = table.tBodies[0];
    const column = head.cellIndex, numeric = head.classList.contains("n");
    const up = head.getAttribute("aria-sort") === (numeric ? "descending" : "none") || (!numeric && !head.hasAttribute("aria-sort"));
    const rows = [...body.rows].map((row) => {
      const cell = row.cells[column];
      return [numeric ? key(cell) : cell.textContent, row];
    });
    const collator = new Intl.Collator(undefined, { numeric: true });
    rows.sort(([a], [b]) => {
      if (!numeric) return up ? collator.compare(a, b) : collator.compare(b, a);
      if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b); // what is not known comes last
      return a === b ? 0 : (a < b) === up ? -1 : 1;
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows.map(([, row]) => row));
  }
  for (const head of document.querySelectorAll(".sortable thead th")) {
    head.firstElementChild.addEventListener("click", () => sort(head));
  }
})();
