// Keeps a page as new as the server's. A pulse, streamed or asked for, says that something has changed; then the page
// fetches itself and takes over the parts that differ. Where the server cannot be reached, the page says since when.
import { correct } from "./clock.js";

const LEAST = 800;
const ASK = 4000;
const SLOW = 8000;

export function follow(main, renewed) {
  const lost = document.getElementById("lost");
  let pulse = main.dataset.held;
  let fetched = 0;
  let busy = false;
  let again = false;
  let since = 0;
  let timer = 0;

  function fine() {
    since = 0;
    if (!lost.hidden) {
      lost.hidden = true;
      lost.textContent = "";
    }
  }

  function failed() {
    since ||= Date.now();
    const told = `The service cannot be reached since ${new Date(since).toLocaleTimeString()}. What you see is from before. Trying again by itself.`;
    if (lost.textContent !== told) lost.textContent = told;
    lost.hidden = false;
  }

  // A document by XMLHttpRequest runs no script and needs no text to be turned into markup.
  function load() {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("GET", location.href);
      request.responseType = "document";
      request.timeout = 20000;
      request.onload = () => resolve(request);
      request.onerror = request.ontimeout = () => reject(new Error("unreachable"));
      request.send();
    });
  }

  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    again = false;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, fetched + LEAST - Date.now())));
    try {
      const request = await load();
      if (new URL(request.responseURL).pathname !== location.pathname || !request.response) {
        location.reload();
        return;
      }
      if (request.status >= 500) throw new Error("failing");
      take(request.response);
      fine();
    } catch {
      failed();
      again = true;
    }
    fetched = Date.now();
    busy = false;
    if (again) setTimeout(refresh, since ? ASK : 0);
  }

  // What somebody is typing into or has opened stays until it is left.
  function inUse(part) {
    return part.contains(document.activeElement) && document.activeElement !== document.body
      ? document.activeElement.matches("input, select, textarea, button") || part.querySelector("details.ask[open]")
      : part.querySelector("details.ask[open]");
  }

  function take(fresh) {
    correct(Number(fresh.documentElement.dataset.now));
    for (const part of main.querySelectorAll("[data-part]")) {
      const newer = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
      if (!newer || part.dataset.seen === newer.outerHTML || inUse(part)) continue;
      const opened = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
      const focused = document.activeElement?.closest("[id]")?.id;
      const seen = newer.outerHTML;
      const taken = document.importNode(newer, true);
      taken.dataset.seen = seen;
      for (const id of opened) {
        const details = taken.querySelector(`#${CSS.escape(id)}`);
        if (details) details.open = true;
      }
      const within = part.contains(document.activeElement);
      part.replaceWith(taken);
      if (within && focused) document.getElementById(focused)?.querySelector("summary, a")?.focus();
    }
    const live = fresh.querySelector("main");
    if (live && !live.dataset.pulse) stop();
    renewed();
  }

  function told(text) {
    const { pulse: newer, now } = JSON.parse(text);
    correct(now);
    fine();
    if (newer !== pulse) refresh();
    pulse = newer;
  }

  async function ask() {
    try {
      const answer = await fetch(main.dataset.pulse, { headers: { Accept: "application/json" } });
      if (answer.redirected) location.reload();
      else if (answer.ok) told(await answer.text());
      else if (answer.status >= 500) failed();
      else stop();
    } catch {
      failed();
    }
  }

  function poll(every) {
    clearInterval(timer);
    timer = setInterval(() => document.hidden || ask(), every);
  }

  let stream = null;
  function listen() {
    stream = new EventSource(main.dataset.live);
    stream.addEventListener("pulse", (event) => told(event.data));
    stream.onopen = () => {
      clearInterval(timer);
      fine();
    };
    stream.onerror = () => {
      // The browser begins anew by itself, unless the server said that it streams nothing.
      poll(ASK);
      ask();
    };
  }

  function stop() {
    clearInterval(timer);
    stream?.close();
  }

  if (main.dataset.live && "EventSource" in window) listen();
  else poll(Number(main.dataset.every) || SLOW);
  document.addEventListener("visibilitychange", () => document.hidden || ask());
  addEventListener("online", ask);
  addEventListener("offline", failed);
  addEventListener("pagehide", stop);
}
