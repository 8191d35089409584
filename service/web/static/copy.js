// A button beside what is to be typed elsewhere.
export function copyable(within) {
  if (!navigator.clipboard) return;
  for (const button of within.querySelectorAll("button[data-copy][hidden]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not copied: select it";
      }
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  }
}
