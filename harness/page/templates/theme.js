"use strict";
const $ = (id) => document.getElementById(id), root = document.documentElement;
const all = (query) => document.querySelectorAll(query), on = (node, kind, what, how) => node.addEventListener(kind, what, how);

function el(tag, how, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(how)) if (name === "class") made.className = value; else made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// The theme is the system's until the button is used. A page opened from disk may have no storage.
{
  const button = $("theme");
  const stored = (value) => {
    try { return value ? localStorage.setItem("convbench-theme", value) : localStorage.getItem("convbench-theme"); } catch { return null; }
  };
  const theme = stored();
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme:dark)").matches);
  const label = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
  button.hidden = false;
  on(button, "click", () => { root.dataset.theme = dark() ? "light" : "dark"; stored(root.dataset.theme); label(); });
  label();
}

// The printed page shows what the screen folds away.
const folded = () => [...all("details")];
on(window, "beforeprint", () => folded().forEach((each) => { each.dataset.was = each.open ? "1" : ""; each.open = true; }));
on(window, "afterprint", () => folded().forEach((each) => { each.open = Boolean(each.dataset.was); }));
