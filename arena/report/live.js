// Follows the log: what is being played is replaced in place, and the page is loaded again when an
// episode has ended, with the same things unfolded and the same place in view.
"use strict";
(() => {
  const EVERY = 2000;
  const KEPT = "arena-view";
  const status = document.getElementById("live-status");
  let seen = null;

  const name = (details) => details.querySelector("summary").textContent;

  function keep() {
    const open = [...document.querySelectorAll("details[open]")].map(name);
    sessionStorage.setItem(KEPT, JSON.stringify({ open, top: window.scrollY }));
  }

  function restore() {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) || "null");
    if (!kept) return;
    sessionStorage.removeItem(KEPT);
    for (const details of document.querySelectorAll("details")) {
      if (kept.open.includes(name(details))) details.open = true;
    }
    window.scrollTo(0, kept.top);
  }

  async function text(path) {
    const answer = await fetch(path, { cache: "no-store" });
    const found = await answer.text();
    if (!answer.ok) throw new Error(found);
    return found;
  }

  async function look() {
    try {
      const state = JSON.parse(await text("/state"));
      if (seen && state.report !== seen.report) {
        keep();
        location.reload();
        return;
      }
      if (!seen || state.now !== seen.now) {
        document.getElementById("now").innerHTML = await text("/now");
      }
      seen = state;
      status.textContent = "This page follows the log.";
    } catch (error) {
      status.textContent = "Not up to date: " + error.message;
    }
    setTimeout(look, EVERY);
  }

  seen = { report: document.documentElement.dataset.state, now: null };
  restore();
  look();
})();
