"use strict";
(() => {
  const $ = (id) => document.getElementById(id), root = document.documentElement;

  // --- theme: the system's until the button is used
  const button = $("theme");
  const stored = (value) => {
    try { return value === undefined ? localStorage.getItem("convbench-theme") : localStorage.setItem("convbench-theme", value); }
    catch { return null; } // a page from disk may be refused storage
  };
  const theme = stored();
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme:dark)").matches);
  const label = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; stored(root.dataset.theme); label(); });
  label();

  // --- the table of results
  const table = $("table");
  if (table) results(table);

  function element(tag, className, ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  function icon(id) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), use = document.createElementNS(svg.namespaceURI, "use");
    svg.setAttribute("class", "mk");
    svg.setAttribute("aria-hidden", "true");
    use.setAttribute("href", "#" + id);
    svg.append(use);
    return svg;
  }

  function built(cells) {
    const row = element("tr", "");
    cells.forEach(([text, , kind = "", id = ""], place) => {
      const made = element(place ? "td" : "th", kind.startsWith("tag") ? "" : kind);
      if (!place) made.scope = "row";
      if (kind.startsWith("tag")) made.append(element("span", kind, text));
      else if (id) made.append(element("span", "bk", icon(id), text));
      else made.textContent = text;
      row.append(made);
    });
    return row;
  }

  function results(table) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], data = $("data");
    const rows = data
      ? JSON.parse(data.textContent).map(([slug, ...cells]) => ({ slug, text: cells.map((cell) => cell[0]), sort: cells.map((cell) => cell[1] ?? null), row: () => built(cells) }))
      : [...body.rows].map((row) => ({ slug: row.dataset.s, text: [...row.cells].map((cell) => cell.textContent), sort: [...row.cells].map((cell) => (cell.dataset.v === undefined ? null : +cell.dataset.v)), row: () => row }));
    rows.forEach((entry, place) => { entry.place = place; entry.words = [entry.slug, ...entry.text].join(" ").toLowerCase(); });
    const size = data ? 50 : Infinity, keys = heads.map((head) => head.dataset.k), state = { q: "", sort: "", page: 0 };
    const numeric = heads.map((head) => head.classList.contains("r"));

    heads.forEach((head, place) => {
      const press = element("button", "", ...head.childNodes);
      press.type = "button";
      press.addEventListener("click", () => {
        const key = keys[place], first = numeric[place] ? "-" + key : key, other = numeric[place] ? key : "-" + key;
        state.sort = state.sort === first ? other : first;
        state.page = 0;
        show(true);
      });
      head.append(press);
    });

    function compare(place, down) {
      return (a, b) => {
        let order;
        if (numeric[place]) {
          const x = a.sort[place], y = b.sort[place];
          if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place; // missing is last either way
          order = x - y;
        } else order = a.text[place] < b.text[place] ? -1 : a.text[place] > b.text[place] ? 1 : 0;
        return (down ? -order : order) || a.place - b.place;
      };
    }

    function show(remember) {
      const words = state.q.toLowerCase().split(/\s+/).filter(Boolean), down = state.sort[0] === "-";
      const place = keys.indexOf(down ? state.sort.slice(1) : state.sort);
      const found = rows.filter((entry) => words.every((word) => entry.words.includes(word)));
      if (place >= 0) found.sort(compare(place, down));
      const pages = Math.max(1, Math.ceil(found.length / size));
      state.page = Math.min(state.page, pages - 1);
      const first = size === Infinity ? 0 : state.page * size, shown = found.slice(first, first + size);
      const none = element("td", "none", "No cell matches the filter.");
      none.colSpan = heads.length;
      body.replaceChildren(...(shown.length ? shown.map((entry) => entry.row()) : [element("tr", "", none)]));
      heads.forEach((head, other) => { if (other === place) head.setAttribute("aria-sort", down ? "descending" : "ascending"); else head.removeAttribute("aria-sort"); });
      $("count").textContent = found.length > shown.length ? `Rows ${first + 1}–${first + shown.length} of ${found.length} (${rows.length} cells in all)` : `${found.length} of ${rows.length} cells`;
      $("pager").hidden = pages < 2;
      $("prev").disabled = !state.page;
      $("next").disabled = state.page >= pages - 1;
      if ($("filter").value !== state.q) $("filter").value = state.q;
      if (remember) history.replaceState(null, "", fragment());
    }

    function fragment() {
      const said = new URLSearchParams();
      for (const key of ["q", "sort"]) if (state[key]) said.set(key, state[key]);
      return "#results" + (String(said) ? "?" + said : "");
    }

    function route() {
      const [name, query = ""] = location.hash.slice(1).split("?");
      if (name !== "results" || !query) return;
      const asked = new URLSearchParams(query);
      Object.assign(state, { q: asked.get("q") || "", sort: asked.get("sort") || "", page: 0 });
      show(false);
      $("results").scrollIntoView();
    }

    $("controls").hidden = false;
    $("filter").addEventListener("input", (event) => { state.q = event.target.value; state.page = 0; show(true); });
    $("clear").addEventListener("click", () => { Object.assign(state, { q: "", sort: "", page: 0 }); show(true); });
    $("prev").addEventListener("click", () => { state.page -= 1; show(false); });
    $("next").addEventListener("click", () => { state.page += 1; show(false); });
    addEventListener("hashchange", route);
    show(false);
    route();
  }

  // --- paper shows what the screen folds away
  const folded = () => [...document.querySelectorAll("details")];
  addEventListener("beforeprint", () => folded().forEach((each) => { each.dataset.was = each.open ? "1" : ""; each.open = true; }));
  addEventListener("afterprint", () => folded().forEach((each) => { each.open = Boolean(each.dataset.was); }));
  root.dataset.ready = "1";
})();
