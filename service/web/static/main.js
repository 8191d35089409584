// The pages work without this; with it they count down, keep up and copy.
import { tick } from "./clock.js";
import { copyable } from "./copy.js";
import { follow } from "./live.js";

const renew = () => {
  copyable(document);
  tick();
};
renew();
setInterval(tick, 1000);

// A menu closes when something else is pressed, or by Escape.
const close = (besides) => {
  for (const menu of document.querySelectorAll("details.me[open], details.ask[open]")) {
    if (menu !== besides && !menu.contains(besides)) menu.open = false;
  }
};
document.addEventListener("click", (event) => close(event.target.closest("details")));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.activeElement?.closest("details.me[open], details.ask[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// A form is sent once, however often its button is pressed; whoever comes back to its page, or has waited, may again.
const PATIENCE = 20000;
const unsent = (form) => delete form.dataset.sent;
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = "true";
  setTimeout(() => unsent(form), PATIENCE);
});
addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach(unsent));

// Loaded again, a page that shows a secret once asks for no other one.
if (document.querySelector("[data-once]")) history.replaceState(null, "", location.pathname);

// What was done is said once: loaded again, the page does not repeat it.
if (new URLSearchParams(location.search).has("done")) history.replaceState(null, "", location.pathname);

const main = document.querySelector("main[data-pulse]");
if (main) follow(main, renew);
