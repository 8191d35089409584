// Time by the server's clock: this machine's only says how much has passed since the page was made.
const started = { server: Number(document.documentElement.dataset.now), here: performance.now() };

export const now = () => started.server + performance.now() - started.here;

// What the server says later corrects what the page said first; an answer is never ahead of the clock.
export function correct(server) {
  if (!Number.isFinite(server)) return;
  started.server = server;
  started.here = performance.now();
}

function lasting(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function tick() {
  for (const element of document.querySelectorAll("[data-until]")) {
    const left = Number(element.dataset.until) - now();
    put(element, left > 0 ? lasting(left) : "closing");
  }
  for (const element of document.querySelectorAll("time[data-at]")) {
    element.dataset.told ??= element.textContent;
    element.title ||= element.dataset.told;
    const past = now() - Number(element.dataset.at);
    if (past >= 0 && past < 86400000) put(element, past < 5000 ? "just now" : `${lasting(past)} ago`);
    else put(element, element.dataset.told);
  }
}
