// What every page shares: menus that close, confirmations with a way back, filters that send themselves, the theme.
document.documentElement.classList.add("js");

for (const button of document.querySelectorAll("[data-closes-menu]")) button.hidden = false;

const openMenus = () => document.querySelectorAll("details[data-menu][open]");

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-closes-menu]")) event.target.closest("details").open = false;
  for (const menu of openMenus()) if (!menu.contains(event.target)) menu.open = false;
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of openMenus()) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// A filter form sends itself; typing waits for a pause.
let pause;
document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-autosubmit]");
  if (!form) return;
  clearTimeout(pause);
  pause = setTimeout(() => form.requestSubmit(), event.target.type === "search" ? 350 : 0);
});

// The theme changes at once; the form's answer only sets the cookie.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-theme-form]") || !event.submitter) return;
  event.preventDefault();
  const data = new FormData(form, event.submitter);
  data.set("fetch", "1");
  document.documentElement.dataset.theme = data.get("theme");
  for (const button of form.querySelectorAll("button[name=theme]")) {
    button.setAttribute("aria-pressed", String(button === event.submitter));
  }
  document.dispatchEvent(new Event("themechange"));
  fetch(form.action, { method: "POST", body: data });
});

// htmx: an error answer still replaces its target, so the person reads why.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status >= 400 && event.detail.xhr.getResponseHeader("HX-Shows-Error")) event.detail.shouldSwap = true;
});

// ⌘K: the sidebar's own links, searchable.
const palette = document.getElementById("palette");
if (palette) {
  const opener = document.querySelector("[data-opens-palette]");
  opener.hidden = false;
  const entries = [...document.querySelectorAll("[data-palette]")].map((link) => ({
    href: link.href, label: link.textContent.trim(), section: link.dataset.palette,
  }));
  const input = Object.assign(document.createElement("input"), { type: "search", placeholder: opener.textContent.replace("⌘K", "").trim() + "…" });
  input.setAttribute("aria-label", palette.getAttribute("aria-label"));
  const list = document.createElement("ul");
  palette.append(input, list);

  const draw = () => {
    const wanted = input.value.toLowerCase();
    list.replaceChildren(...entries.filter((entry) => `${entry.section} ${entry.label}`.toLowerCase().includes(wanted)).map((entry) => {
      const link = Object.assign(document.createElement("a"), { href: entry.href, textContent: entry.label });
      link.append(Object.assign(document.createElement("small"), { textContent: entry.section }));
      const item = document.createElement("li");
      item.append(link);
      return item;
    }));
  };
  const open = () => { input.value = ""; draw(); palette.showModal(); input.focus(); };

  opener.addEventListener("click", open);
  input.addEventListener("input", draw);
  palette.addEventListener("click", (event) => { if (event.target === palette) palette.close(); });
  palette.addEventListener("keydown", (event) => {
    const links = [...list.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    if (event.key === "Enter" && at < 0 && links.length) links[0].click();
    if (event.key === "ArrowDown") { links[Math.min(at + 1, links.length - 1)]?.focus(); event.preventDefault(); }
    if (event.key === "ArrowUp") { (at > 0 ? links[at - 1] : input).focus(); event.preventDefault(); }
  });
  document.addEventListener("keydown", (event) => {
    if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k") { event.preventDefault(); open(); }
  });
}
