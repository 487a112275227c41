// Comfort only: every page works without it, but for reading the code of a
// sign-in link, which is in the fragment so that it is in no log.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// A form takes the code of a link from the address, where it does not stay.
function takeCode(form) {
  if (!form || location.hash.length < 2) return false;
  form.elements.code.value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}

// Sign-in links.
const linkForm = $("[data-sign-in-link]");
const followLink = () => { if (takeCode(linkForm)) linkForm.requestSubmit(); };
followLink();
addEventListener("hashchange", followLink); // pasted where the page is open already

// Times in the zone and manner of who looks.
const lang = document.documentElement.lang || "en";
const exact = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "long" });
const relative = new Intl.RelativeTimeFormat(lang, { numeric: "auto" });
const day = new Intl.DateTimeFormat(lang, { dateStyle: "medium" });
const units = [["second", 60], ["minute", 60], ["hour", 48], ["day", 60]];

function far(at) {
  let n = (at - Date.now()) / 1000;
  for (const [unit, limit] of units) {
    if (Math.abs(n) < limit) return unit === "second" && n <= 0 && n > -5 ? relative.format(0, "second") : relative.format(Math.trunc(n), unit);
    n /= unit === "day" ? 1 : unit === "hour" ? 24 : 60;
  }
  return day.format(at);
}

function showTimes(root) {
  for (const t of $$("time[datetime]", root)) {
    const at = new Date(t.dateTime);
    if (Number.isNaN(at.valueOf())) continue;
    t.title = exact.format(at);
    t.textContent = t.hasAttribute("data-exact") ? exact.format(at) : far(at);
  }
}
setInterval(() => showTimes(document), 30000);

const announce = (text) => { const a = $("#announce"); a.textContent = ""; a.textContent = text; };

// What is beside the list: links with data-panel open there.
const dialog = $("#panel-dialog");
function openPanel(address) {
  htmx.ajax("GET", address, { target: "#panel", swap: "innerHTML" });
}
document.addEventListener("click", (e) => {
  if (e.ctrlKey || e.metaKey || e.shiftKey || e.button) return;
  const link = e.target.closest("[data-panel]");
  if (link && dialog?.showModal) {
    e.preventDefault();
    openPanel(link.getAttribute("href") || formAddress(link));
    return;
  }
  if (e.target.closest("[data-close-panel]") || e.target === dialog) dialog.close();
  const copy = e.target.closest("[data-copy]");
  if (copy) {
    const text = $("code, input", copy.parentElement);
    navigator.clipboard?.writeText(text.value ?? text.textContent).then(() => {
      const label = $("span", copy), was = label.textContent;
      label.textContent = copy.dataset.done || "✓";
      announce(label.textContent);
      setTimeout(() => { label.textContent = was; }, 1500);
    });
  }
  for (const m of $$("details.menu[open]")) if (!m.contains(e.target)) m.open = false;
});

// The address that a button of a list's commands asks, with what is chosen.
function formAddress(button) {
  const form = button.form;
  return button.getAttribute("formaction") + "?" + new URLSearchParams(new FormData(form)).toString();
}

document.addEventListener("htmx:afterSwap", (e) => {
  if (e.detail.target.id === "panel" && !dialog.open) {
    dialog.showModal();
    document.documentElement.classList.add("has-panel");
  }
});
dialog?.addEventListener("close", () => {
  $("#panel").replaceChildren();
  document.documentElement.classList.remove("has-panel");
});
// Forms in the panel answer there; what is done leads on by HX-Redirect.
// What the page asks by itself, since something has happened, is no use of the session.
document.addEventListener("htmx:configRequest", (e) => {
  if (e.detail.triggeringEvent?.type?.startsWith("sse:")) e.detail.headers["X-Latchkey-Live"] = "1";
});

function within(root) {
  showTimes(root);
  for (const b of $$("[data-copy], [data-close-panel]", root)) b.hidden = false;
  for (const f of $$("#panel form[method=post]:not([hx-post])", root.closest ? root.closest("dialog") ?? root : root)) {
    f.setAttribute("hx-post", f.getAttribute("action"));
    f.setAttribute("hx-target", "#panel");
    htmx.process(f);
  }
  const focus = $("[data-focus]", root);
  if (focus) focus.focus();
  for (const s of $$("[data-announce]", root)) announce(s.textContent.trim());
  for (const table of $$("table[data-select]", root)) chosen(table);
}

// Lists: what is chosen decides which commands can be given.
function chosen(table) {
  const boxes = $$("tbody input[type=checkbox]", table), n = boxes.filter((b) => b.checked).length;
  const all = $("thead input[type=checkbox]", table);
  if (all) {
    all.hidden = false;
    all.checked = n > 0 && n === boxes.length;
    all.indeterminate = n > 0 && n < boxes.length;
  }
  const form = table.closest("form") ?? document; // or the boxes name theirs
  for (const b of $$("[data-needs]", form)) b.disabled = b.dataset.needs === "one" ? n !== 1 : n === 0;
  const said = $("[data-chosen]", form);
  if (said) said.textContent = n ? said.dataset.chosen.replace("{0}", n) : "";
}
document.addEventListener("change", (e) => {
  const table = e.target.closest("table[data-select]");
  if (!table) return;
  if (e.target.closest("thead")) for (const b of $$("tbody input[type=checkbox]", table)) b.checked = e.target.checked;
  chosen(table);
});
// Without script the button of a search is needed.
for (const b of $$(".search button")) b.hidden = true;

// The navigation, narrow or wide, at once.
document.addEventListener("submit", (e) => {
  const narrow = e.submitter?.dataset.narrow;
  if (narrow === undefined || e.submitter.name !== "narrow") return;
  e.preventDefault();
  const now = document.documentElement.toggleAttribute("data-narrow");
  fetch("/preferences", { method: "POST", headers: { "HX-Request": "true" }, body: new URLSearchParams({ narrow: String(now) }) });
});

// Keys: Ctrl+K finds, Escape closes menus, / searches the list.
document.addEventListener("keydown", (e) => {
  const palette = $("[data-palette]");
  if ((e.ctrlKey || e.metaKey) && e.key === "k" && palette) {
    e.preventDefault();
    openPanel(palette.href);
  } else if (e.key === "Escape") {
    for (const m of $$("details.menu[open]")) { m.open = false; $("summary", m).focus(); }
  } else if (e.key === "/" && !e.target.closest("input, textarea, select")) {
    const search = $(".search input[type=search]");
    if (search) { e.preventDefault(); search.focus(); }
  }
});

// Leaving a form that is filled in warns.
let filled = false;
document.addEventListener("input", (e) => { if (e.target.closest("form[data-guard]")) filled = true; });
document.addEventListener("submit", () => { filled = false; });
addEventListener("beforeunload", (e) => { if (filled || $("form[data-guard=always]")) e.preventDefault(); });

document.addEventListener("DOMContentLoaded", () => within(document));
document.addEventListener("htmx:load", (e) => within(e.detail.elt));

// Arrows walk what was found.
document.addEventListener("keydown", (e) => {
  if (e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
  const panel = e.target.closest("#panel, main"), links = panel ? $$(".found a", panel) : [];
  if (!links.length || !(e.target.matches(".finder input") || links.includes(e.target))) return;
  e.preventDefault();
  const i = links.indexOf(e.target) + (e.key === "ArrowDown" ? 1 : -1);
  (links[i] ?? $(".finder input", panel)).focus();
});
// What follows the changes: a page that nobody looks at does not, since browsers
// have few connections to a host. Parts that are the same are left alone; what is
// chosen in the others stays chosen.
if (window.htmx) {
  const streams = new Set();
  let away = false;
  htmx.createEventSource = (url) => {
    const stream = new EventSource(url);
    streams.add(stream);
    if (away) stream.addEventListener("open", () => setTimeout(() => { away = false; stream.dispatchEvent(new Event("change")); }), { once: true });
    return stream;
  };
  document.addEventListener("visibilitychange", () => {
    for (const s of streams) {
      if (document.hidden) s.close();
      else if (s.readyState === EventSource.CLOSED) { away = true; streams.delete(s); s.onerror?.(new Event("error")); }
    }
  });
  const shown = new Map();
  let kept = [];
  document.addEventListener("htmx:beforeSwap", (e) => {
    const part = e.detail.target, text = e.detail.xhr.responseText;
    if (!part.matches("[hx-trigger='sse:change']")) return;
    if (e.detail.xhr.status !== 200 || shown.get(part.id) === text || $("details[open]", part)) {
      e.detail.shouldSwap = false;
      return;
    }
    shown.set(part.id, text);
    kept = $$("input[type=checkbox]:checked", part).map((box) => box.id);
  });
  document.addEventListener("htmx:load", (e) => {
    for (const id of kept) { const box = id && document.getElementById(id); if (box) box.checked = true; }
    kept = [];
    for (const table of $$("table[data-select]", e.detail.elt)) chosen(table);
  });
}
// uniqueName makes the unique name of a variable from its display name.
function uniqueName(prefix, display) {
  const rest = display.replace(/[^A-Za-z0-9_]/g, "");
  return rest ? `${prefix}_${rest}`.slice(0, 100) : "";
}

// A variable's unique name follows its display name until somebody edits it.
document.addEventListener("input", (e) => {
  const form = e.target.closest("[data-prefix]");
  if (!form?.elements.displayName) return;
  const name = form.elements.name, display = form.elements.displayName;
  if (e.target === name) name.dataset.edited = name.value;
  if (e.target !== display || name.dataset.edited) return;
  name.value = uniqueName(form.dataset.prefix, display.value);
});

// The code of a setup link, which is in the fragment so that it is in no log.
const codeForm = $("[data-link-code]");
if (takeCode(codeForm)) {
  $(".field", codeForm).hidden = true;
  codeForm.elements.displayName.focus();
}

// Passkeys: the browser makes one, or signs with one, and the form takes its answer.
const passkeys = { create: ["/account/passkeys/options", "parseCreationOptionsFromJSON"], get: ["/sign-in/passkey/options", "parseRequestOptionsFromJSON"] };
for (const f of $$("form[data-passkey]")) {
  const [address, parse] = passkeys[f.dataset.passkey];
  if (!window.PublicKeyCredential?.[parse]) continue;
  f.hidden = false;
  f.addEventListener("submit", async (e) => {
    e.preventDefault();
    const error = $("[role=alert]", f);
    error.hidden = true;
    try {
      const answer = await fetch(address, { method: "POST" });
      const publicKey = PublicKeyCredential[parse]((await answer.json()).publicKey);
      const made = await navigator.credentials[f.dataset.passkey]({ publicKey });
      f.elements.response.value = JSON.stringify(made.toJSON());
      f.submit();
    } catch {
      error.textContent = f.dataset.failed;
      error.hidden = false;
    }
  });
}

// What is of use only without script.
for (const b of $$("[data-no-script]")) b.hidden = true;
document.addEventListener("htmx:load", (e) => { for (const b of $$("[data-no-script]", e.detail.elt)) b.hidden = true; });

// The wizard: what is sent is not left, and unique names follow display names.
document.addEventListener("submit", (e) => { if (e.target.matches(".wizard")) e.target.removeAttribute("data-guard"); });
document.addEventListener("input", (e) => {
  const form = e.target.closest(".wizard"), name = form?.elements[e.target.name?.replace("Display", "Name")];
  if (!name || !e.target.name.endsWith("Display") || name.dataset.edited) return;
  name.value = uniqueName(form.dataset.prefix, e.target.value);
});
document.addEventListener("input", (e) => { if (e.target.matches(".wizard [name$=Name]")) e.target.dataset.edited = e.target.value; });
for (const name of $$(".wizard [name$=Name]")) name.dataset.edited = name.value;
for (const display of $$(".wizard [name$=Display]")) display.dispatchEvent(new Event("input", { bubbles: true }));
