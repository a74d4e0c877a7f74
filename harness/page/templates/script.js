(async () => {
  const ready = () => { root.dataset.ready = "1"; };

  // --- switches: buttons choose which part the screen shows; paper and pages without script show all
  all(".switch").forEach((box) => {
    const parts = [...box.querySelectorAll(":scope > [data-part]")];
    if (parts.length < 2) return;
    const buttons = parts.map((part) => el("button", { type: "button" }, part.dataset.part));
    const choose = (at) => parts.forEach((part, other) => {
      part.classList.toggle("off", other !== at);
      buttons[other].setAttribute("aria-pressed", other === at);
    });
    buttons.forEach((button, at) => on(button, "click", () => choose(at)));
    box.prepend(el("div", { class: "seg", role: "group", "aria-label": box.dataset.label || "Show" }, ...buttons));
    choose(0);
  });

  const source = $("data");
  if (!source) return ready();
  const decoded = (packed) => Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const unzipped = (packed) => new Response(new Blob([decoded(packed)]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  const text = "gzip" in source.dataset ? await unzipped(source.textContent) : source.textContent;
  const D = JSON.parse(text), V = D.values;
  const COLUMNS = D.columns.map(([key, label, unit, kind, shown]) => ({ key, label, unit, kind, shown, numeric: !V[key].k }));
  const columnOf = (key) => COLUMNS.find((column) => column.key === key);

  // --- values and how they are written
  const raw = (key, i) => (V[key].k ? V[key].k[V[key].v[i]] : V[key][i]);
  const said = (key, i) => (V[key].t ? V[key].t[V[key].v[i]] : raw(key, i));
  const there = (value) => value !== null;

  function significant(value, digits) {
    if (!value) return "0";
    const magnitude = Math.floor(Math.log10(Math.abs(value.toPrecision(digits))));
    return value.toFixed(Math.max(0, digits - 1 - magnitude));
  }

  const WRITE = {
    4: (x) => significant(x, 4), 3: (x) => significant(x, 3), 2: (x) => (x < 1e4 ? x.toFixed(2) : x.toPrecision(3)), 1: (x) => x.toFixed(1), "%": (x) => x.toFixed(1),
    "+": (x) => (x.toFixed(1) > 0 ? "+" : "") + x.toFixed(1).replace(/^-0\.0$/, "0.0"), e: (x) => x.toExponential(1),
  };
  const WIDE = 30; // % to either side: beyond, the ends of an interval are told instead
  const written = ({ key, kind, numeric }, i) => {
    const value = V[key][i];
    if (!numeric) return said(key, i) || "–";
    if (value === null) return "–";
    if (key === "ci" && value > WIDE) return `${number("low", i)} to ${number("high", i)} ms`;
    const mark = key === "factor" ? ["", "○ ", "● ", "~"][D.marks[i]] : "";
    return mark + WRITE[kind](value).replace("-", "−") + (mark === "● " ? "" : ends(`${key}_low`, `${key}_high`, i));
  };
  const number = (key, i) => written(columnOf(key), i);
  const ends = (low, high, i, before = "", unit = "") => (Number.isFinite(V[low]?.[i]) ? ` (${before}${number(low, i)} to ${number(high, i)}${unit})` : "");

  const slug = (i) => D.slugs[i] ?? D.slug.map((key) => raw(key, i)).filter(Boolean).join("/");
  const link = (i) => "#case=" + encodeURIComponent(slug(i)).replaceAll("%2F", "/");
  const status = (i) => raw("status", i), plain = (shown) => shown.replaceAll("_", " ");
  const several = (key) => V[key].k.length > 1;
  const others = [...(several("device") ? ["device"] : []), ...D.slug.slice(4)];
  const name = (i) => [raw("workload", i), said("direction", i), said("backend", i), ...others.map((key) => raw(key, i))].filter(Boolean).join(" · ");
  const rows = [...Array(D.n).keys()], places = new Map(rows.map((i) => [slug(i), i]));
  const cell = (i) => D.ids[i] ?? D.id.map((part) => (part.key ? (part.before || "") + (part.lower ? raw(part.key, i).toLowerCase() : raw(part.key, i)) : part)).filter(Boolean).join("/");

  // --- pieces
  const NS = "http://www.w3.org/2000/svg";
  function svg(tag, how, ...children) {
    const made = document.createElementNS(NS, tag);
    if (tag === "svg") made.ariaHidden = true;
    for (const key of Object.keys(how)) made.setAttribute(key, how[key]);
    made.append(...children);
    return made;
  }
  const look = (i) => V.backend.c[V.backend.v[i]];
  const icon = (i) => svg("svg", { class: "mk" }, svg("use", { href: `#k-${look(i)}-${V.backend.m[D.modes === true ? raw("mode", i) : D.modes] || "full"}` }));
  const backend = (i) => el("span", { class: "bk" }, icon(i), said("backend", i));
  const tag = (shown) => el("span", { class: "tag " + shown.split(" ")[0].replace("(", "") + (shown === "no change" ? " same" : "") }, ({ slower: "▲ ", faster: "▼ " }[shown] || "") + plain(shown));

  // A night is a 16-bit multiple of the case's median; 0 is a missing night.
  const H = D.history, bytes = H && new DataView(decoded(H.b64).buffer);
  const nights = (i) => (H ? H.nights.map((_, k) => { const v = bytes.getUint16(2 * (i * H.nights.length + k), true); return v && H.median[i] !== null ? v / 1e4 * H.median[i] : null; }) : []);

  function curve(values, width, height, stroke) {
    const known = values.filter(there);
    const made = svg("svg", { class: "spark", width, height, viewBox: `0 0 ${width} ${height}` });
    if (!known.length) return made;
    const low = Math.min(...known), high = Math.max(...known), middle = (low + high) / 2, half = 0.575 * Math.max(high - low, middle * 0.06);
    const x = (k) => (3 + k * (width - 7) / Math.max(1, values.length - 1)).toFixed(1), y = (v) => (height - 2 - (v - middle + half) / (2 * half) * (height - 4)).toFixed(1);
    let path = "", gap = true, last = 0;
    values.forEach((value, k) => { if (value === null) gap = true; else { path += `${gap ? "M" : "L"}${x(k)} ${y(value)}`; gap = false; last = k; } });
    made.append(svg("path", { d: path, fill: "none", class: stroke, "stroke-width": height > 40 ? 1.8 : 1.3 }), svg("circle", { cx: x(last), cy: y(values[last]), r: 2.3, class: "f-ink" }));
    return made;
  }

  // --- what a mark says, to the eye and to the ear
  const tip = $("tip"), live = $("live");
  let current = null, held = 0;
  // The times shown are measured medians. A change by another estimator is not their quotient, so its estimator is named.
  const by = (i) => (["", "median"].includes(raw("estimator", i)) ? "" : ` by the ${raw("estimator", i)}`);
  function facts(i) {
    const found = [], add = (label, key, unit = "", more = "") => { if (V[key][i] !== null) found.push([label, number(key, i) + unit + more]); };
    found.push(["shape", raw("shape", i)]);
    if (status(i) !== "ok") return [...found, ["status", plain(status(i))], ["reason", raw("message", i) || "–"]];
    add("median", "median", " ms", ends("low", "high", i));
    add("change", "change", " %", `${by(i)}, ${raw("verdict", i)}`);
    add("÷ lowest", "factor", "×");
    add("rate", "rate", " TFLOP/s", V.ceiling[i] === null ? "" : `, ${number("ceiling", i)} % of ceiling`);
    add("memory", "peak", " MiB", V.least[i] === null ? "" : `, ${number("least", i)}× minimum`);
    add("energy", "energy", " mJ/GFLOP");
    if (raw("flags", i)) found.push(["flags", raw("flags", i)]);
    return found;
  }
  function show(mark, aloud) {
    hide();
    current = mark;
    mark.classList.add("on");
    if (aloud) { held = performance.now(); mark.scrollIntoView({ block: "nearest", inline: "nearest" }); }
    const i = +mark.dataset.i, lines = facts(i), at = mark.getBoundingClientRect();
    tip.replaceChildren(el("b", {}, name(i)), el("dl", {}, ...lines.flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, value)])));
    tip.hidden = false;
    const size = tip.getBoundingClientRect(), right = at.right + 10 + size.width < innerWidth;
    tip.style.left = Math.max(6, right ? at.right + 10 : at.left - size.width - 10) + "px";
    tip.style.top = Math.max(6, Math.min(innerHeight - size.height - 6, at.top - size.height / 2)) + "px";
    if (aloud) live.textContent = `${name(i)}: ${lines.map((line) => line.join(" ")).join(", ")}`;
  }
  function hide() {
    if (current) current.classList.remove("on");
    current = null;
    tip.hidden = true;
  }
  const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
  new Set([...all("[data-i]")].map((mark) => mark.closest("[tabindex='0']"))).forEach((box) => {
    if (!box) return;
    const marks = [...box.querySelectorAll("[data-i]")], of = (event) => event.target.closest("[data-i]");
    marks.forEach((mark) => mark.removeAttribute("title"));
    let at = -1, walk = null;
    const order = () => walk || (walk = marks[0].matches("td") ? marks : marks.map((mark) => [mark, mark.getBoundingClientRect()]).sort((a, b) => a[1].left - b[1].left || a[1].top - b[1].top).map((pair) => pair[0]));
    on(box, "pointerover", (event) => { if (of(event)) show(of(event)); else hide(); });
    on(box, "pointerleave", hide);
    on(box, "blur", hide);
    on(box, "click", (event) => { if (of(event)) open(+of(event).dataset.i); });
    on(box, "keydown", (event) => {
      const step = STEPS[event.key];
      if (step) { at = at < 0 ? 0 : Math.max(0, Math.min(marks.length - 1, at + step)); show(order()[at], true); event.preventDefault(); }
      else if (event.key === "Enter" && current) { open(+current.dataset.i); event.preventDefault(); }
    });
  });
  on(window, "keydown", (event) => { if (event.key === "Escape") hide(); });
  on(window, "scroll", () => { if (performance.now() - held > 250) hide(); }, { passive: true });
  const open = (i) => { location.hash = link(i); };

  // --- the table
  const FILTERS = ["device", "direction", "backend", "status", "verdict"], KEYS = ["q", ...FILTERS, "sort"], SIZE = 50;
  const shown = COLUMNS.filter((column) => column.shown & 1 && (column.numeric ? V[column.key].some(there) : column.key === "workload" || V[column.key].k.some(Boolean)));
  if (H) shown.push({ key: "nights", label: `${H.nights.length} nights` });
  const state = Object.fromEntries(KEYS.map((key) => [key, ""])), table = $("table"), body = table.tBodies[0];
  // The search finds a shape by its text, by a part such as n=1, and by its kind.
  const sought = (shape) => `${shape} ${shape.replace(/\b([nckfspdg])(?=\d)/g, "$1=")} ${/ c(\d+) .* g\1$/.test(shape) && !/ c1 /.test(shape) ? "depthwise" : ""}`;
  const texts = rows.map((i) => [slug(i), said("direction", i), said("backend", i), status(i), raw("flags", i), sought(raw("shape", i))].join(" ").toLowerCase());
  const weight = (i) => (["slower", "faster"].includes(raw("verdict", i)) ? -V.severity[i] : 0);
  let page = 0, found = rows;
  const heads = shown.map((column) => {
    const { key, label, unit, numeric } = column;
    if (key === "nights") return el("th", { scope: "col" }, label);
    const press = el("button", { type: "button" }, label, ...(unit ? [el("span", { class: "unit" }, unit)] : []));
    on(press, "click", () => {
      const [first, other] = numeric ? ["-" + key, key] : [key, "-" + key];
      state.sort = state.sort === first ? other : first;
      push();
    });
    return el("th", { scope: "col", class: numeric ? "r" : "" }, press);
  });
  table.tHead.replaceChildren(el("tr", {}, ...heads));
  FILTERS.forEach((key) => {
    const choice = $("f-" + key);
    V[key].k.forEach((value, at) => { if (value) choice.append(el("option", { value }, plain(V[key].t ? V[key].t[at] : value))); });
    choice.parentElement.hidden = V[key].k.filter(Boolean).length < 2;
    on(choice, "change", () => { state[key] = choice.value; push(); });
  });

  function compared() {
    const down = state.sort[0] === "-", key = down ? state.sort.slice(1) : state.sort, column = shown.find((each) => each.key === key && key !== "nights");
    if (!column) return (a, b) => weight(a) - weight(b) || a - b;
    return (a, b) => {
      const x = column.numeric ? V[key][a] : said(key, a), y = column.numeric ? V[key][b] : said(key, b), none = (value) => value === null || value === "";
      if (none(x) || none(y)) return none(x) - none(y) || a - b;
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1) || a - b;
    };
  }

  function line(i) {
    return el("tr", {}, ...shown.map((column, at) => {
      const made = el(at ? "td" : "th", column.numeric ? { class: "r" } : {});
      if (!at) { made.scope = "row"; made.append(el("a", { href: link(i) }, raw("workload", i)), el("span", { class: "shape" }, raw("shape", i))); }
      else if (column.kind === "backend") made.append(backend(i));
      else if (column.kind === "tag") made.append(raw(column.key, i) ? tag(raw(column.key, i)) : "–");
      else if (column.key === "nights") made.append(curve(nights(i), 96, 20, "s-mut"));
      else made.textContent = written(column, i);
      return made;
    }));
  }

  function apply() {
    const asked = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    found = rows.filter((i) => FILTERS.every((key) => !state[key] || raw(key, i) === state[key]) && asked.every((word) => texts[i].includes(word))).sort(compared());
    const pages = Math.max(1, Math.ceil(found.length / SIZE));
    page = Math.min(page, pages - 1);
    const first = page * SIZE, part = found.slice(first, first + SIZE);
    body.replaceChildren(...(part.length ? part.map(line) : [el("tr", {}, el("td", { colspan: shown.length, class: "w" }, "No case matches the filters."))]));
    heads.forEach((head, at) => {
      const key = shown[at].key;
      head.ariaSort = state.sort === key ? "ascending" : state.sort === "-" + key ? "descending" : null;
    });
    $("count").textContent = found.length ? `Rows ${first + 1}–${first + part.length} of ${found.length} (${D.n} case${D.n === 1 ? "" : "s"} in all)` : "No case matches the filters.";
    $("prev").disabled = !page;
    $("next").disabled = page >= pages - 1;
    ["q", ...FILTERS].forEach((key) => { if ($("f-" + key).value !== state[key]) $("f-" + key).value = state[key]; });
  }

  function fragment() {
    const asked = new URLSearchParams(KEYS.filter((key) => state[key]).map((key) => [key, state[key]]));
    return "#results" + (String(asked) ? "?" + asked : "");
  }
  function push() {
    page = 0;
    back = fragment();
    history.replaceState(null, "", back);
    apply();
  }

  let typing;
  on($("f-q"), "input", (event) => { clearTimeout(typing); typing = setTimeout(() => { state.q = event.target.value; push(); }, 120); });
  on($("clear"), "click", () => { KEYS.forEach((key) => { state[key] = ""; }); push(); });
  on($("prev"), "click", () => { page -= 1; apply(); });
  on($("next"), "click", () => { page += 1; apply(); });

  // --- files
  const quoted = (value, text) => {
    const safe = (text && /^[=+\-@\t\r]/.test(value) ? "'" : "") + (value ?? "");
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const csv = (list) => "\ufeff" + [COLUMNS.map((c) => (c.unit ? `${c.key} (${c.unit})` : c.key)), ...list.map((i) => COLUMNS.map((c) => quoted(raw(c.key, i), !c.numeric)))].map((cells) => cells.join(",")).join("\r\n") + "\r\n";
  function save(content, file, type) {
    const url = URL.createObjectURL(new Blob([content], { type })), link = el("a", { href: url, download: file });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 4000);
  }
  on($("csv"), "click", () => save(csv(found), "results-filtered.csv", "text/csv"));
  on($("csv-all"), "click", () => save(csv(rows), "results.csv", "text/csv"));
  on($("json-all"), "click", () => save(text, "report-data.json", "application/json"));

  // --- a case
  const dialog = $("case");
  let back = "";
  function bar(i, scale) {
    const width = 190, x = (value) => 2 + value / scale * (width - 8), made = svg("svg", { width, height: 16, viewBox: `0 0 ${width} 16` });
    made.append(svg("rect", { x: 2, y: 4, width: Math.max(1, x(V.median[i]) - 2), height: 8, class: "f-" + look(i), opacity: 0.35 }));
    if (V.low[i] !== null && V.high[i] !== null) made.append(svg("line", { x1: x(V.low[i]), x2: x(V.high[i]), y1: 8, y2: 8, class: "s-" + look(i), "stroke-width": 2 }));
    made.append(svg("circle", { cx: x(V.median[i]), cy: 8, r: 3, class: "f-" + look(i) }));
    return made;
  }

  function beside(i) {
    const same = rows.filter((j) => raw("workload", j) === raw("workload", i)), scale = {}, past = H && same.some((j) => nights(j).some(there)), change = V.change.some(there);
    for (const j of same) scale[raw("device", j)] = Math.max(scale[raw("device", j)] || 0, V.high[j] || V.median[j] || 0);
    const heads = [
      ["Backend", backend], ...others.map((key) => [columnOf(key).label, (j) => raw(key, j)]), ["Median ms", (j) => number("median", j), "r"],
      [several("device") ? "Scaled per device" : "To scale", (j) => (V.median[j] === null ? tag(status(j)) : bar(j, scale[raw("device", j)]))],
      ["÷ lowest", (j) => number("factor", j), "r"], ...(change ? [["Change %", (j) => number("change", j), "r"]] : []),
      ...(past ? [["History", (j) => curve(nights(j), 110, 20, "s-" + look(j))]] : []),
    ];
    const lines = same.map((j) => el("tr", j === i ? { class: "this", "aria-current": "true" } : {},
      el("th", { scope: "row" }, j === i ? said("direction", j) : el("a", { href: link(j) }, said("direction", j))),
      ...heads.map(([, of, how = ""]) => el("td", { class: how }, of(j)))));
    return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "All results of this workload" }, el("table", {},
      el("thead", {}, el("tr", {}, ...[["Direction"], ...heads].map(([label]) => el("th", { scope: "col" }, label)))), el("tbody", {}, ...lines)));
  }

  function past(i) {
    const values = nights(i), known = values.filter(there);
    if (known.length < 2) return [];
    const low = Math.min(...known), high = Math.max(...known), when = (value) => H.nights[values.indexOf(value)], shape = curve(values, 840, 120, "s-" + look(i));
    shape.setAttribute("class", "long");
    return [el("h3", {}, `The last ${H.nights.length} nights`), shape, el("p", { class: "note" }, `Median in ms, ${H.nights[0]} to ${H.nights.at(-1)}: lowest ${significant(low, 4)} on ${when(low)}, highest ${significant(high, 4)} on ${when(high)}. The axis does not start at zero.`)];
  }

  function fill(i) {
    const ok = V.median[i] !== null, parts = [tag(status(i)), " "];
    if (ok) parts.push("median ", el("b", {}, `${number("median", i)} ms`), ends("low", "high", i, "95 % interval ", " ms"));
    if (V.baseline[i] !== null) parts.push(`, baseline ${number("baseline", i)} ms, change ${number("change", i)} %${by(i)}`, ends("ratio_low", "ratio_high", i, "ratio "));
    else if (ok) parts.push(", no baseline");
    if (raw("verdict", i)) parts.push(" ", tag(raw("verdict", i)));
    const rest = COLUMNS.filter((c) => c.shown & 2 && (c.numeric ? V[c.key][i] !== null : raw(c.key, i)));
    const id = cell(i);
    $("case-h").textContent = name(i);
    $("case-b").replaceChildren(el("p", {}, ...parts), ...(raw("message", i) ? [el("p", {}, el("code", {}, raw("message", i)))] : []),
      ...(rest.length ? [el("dl", { class: "case" }, ...rest.map((c) => el("div", {}, el("dt", {}, c.label), el("dd", {}, written(c, i) + (c.unit && c.unit !== "×" ? " " : "") + c.unit))))] : []),
      ...past(i), $("ran-" + i)?.content.cloneNode(true) ?? "", el("h3", {}, "This workload on every backend, direction and device"), beside(i), el("h3", {}, "Run it again"),
      el("p", {}, id ? el("code", { class: "copy" }, `${D.command} ${id}`) : "No expression of the command line fits the name of this case."));
    if (!dialog.open) dialog.showModal();
    $("case-b").scrollTop = 0;
  }
  const leave = () => { if (location.hash.startsWith("#case=")) history.replaceState(null, "", back || "#"); };
  on(dialog, "close", leave);
  on($("case-x"), "click", () => dialog.close());
  on(dialog, "click", (event) => { if (event.target === dialog) dialog.close(); });

  // --- fragments: #section, #results?key=value, #case=slug
  function route() {
    const [place, query = ""] = location.hash.slice(1).split("?"), named = location.hash.slice(6);
    hide();
    if (place.startsWith("case=")) {
      let i;
      try { i = places.get(decodeURIComponent(named)); } catch { /* no slug */ }
      if (i !== undefined) return fill(i);
    }
    if (dialog.open) dialog.close();
    back = location.hash;
    if (place === "results" && query) {
      const asked = new URLSearchParams(query);
      KEYS.forEach((key) => { const value = asked.get(key) || ""; state[key] = FILTERS.includes(key) && !V[key].k.includes(value) ? "" : value; });
      page = 0;
      apply();
      $("results").scrollIntoView();
    }
  }
  on(window, "hashchange", route);
  all(".js").forEach((each) => { each.hidden = false; });
  apply();
  route();
  ready();
})();
