// Comfort only: every page works without it, but for reading the code of a
// sign-in link, which is in the fragment so that it is in no log.
"use strict";

const linkForm = document.querySelector("[data-sign-in-link]");
if (linkForm && location.hash.length > 1) {
  linkForm.elements.code.value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  linkForm.requestSubmit();
}

for (const t of document.querySelectorAll("time[datetime]")) {
  const at = new Date(t.dateTime);
  if (!Number.isNaN(at.valueOf())) t.title = at.toLocaleString();
}
