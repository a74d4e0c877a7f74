(() => {
  const FILTERS = ["machine", "state"], table = $("table");
  if (table) {
    const rows = [...table.tBodies[0].rows], chosen = (key) => $("f-" + key).value;
    rows.forEach((row) => { row.dataset.machine = row.querySelector("[data-m]").textContent; });
    const apply = () => {
      let count = 0;
      for (const row of rows) {
        row.hidden = !FILTERS.every((key) => !chosen(key) || row.dataset[key] === chosen(key));
        count += !row.hidden;
      }
      $("count").textContent = count ? `${count} of ${rows.length} run${rows.length === 1 ? "" : "s"}` : "No run matches the filters.";
    };
    const route = () => {
      const [place, query = ""] = location.hash.slice(1).split("?"), asked = new URLSearchParams(query);
      FILTERS.forEach((key) => {
        const value = place === "runs" ? asked.get(key) || "" : chosen(key);
        $("f-" + key).value = [...$("f-" + key).options].some((option) => option.value === value) ? value : "";
      });
      apply();
      if (place === "runs" && query) $("runs").scrollIntoView();
    };
    FILTERS.forEach((key) => on($("f-" + key), "change", () => {
      const asked = new URLSearchParams(FILTERS.filter(chosen).map((each) => [each, chosen(each)]));
      history.replaceState(null, "", "#runs" + (String(asked) ? "?" + asked : ""));
      apply();
    }));
    on(window, "hashchange", route);
    all(".js").forEach((each) => { each.hidden = false; });
    route();
  }
  root.dataset.ready = "1";
})();
