// Buttons that have the server do something: data-post says where to, data-asks what to ask first.
import { refresh } from "./refresh.js";

export function post(address, body, headers = {}) {
  return fetch(address, {
    method: "POST",
    headers: { Accept: "application/json", "Content-Type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}

export function watchButtons() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-post]");
    if (!button || !confirm(button.dataset.asks)) return;
    button.disabled = true;
    const response = await post(button.dataset.post);
    if (!response.ok) alert((await response.json()).detail);
    button.disabled = false;
    refresh();
  });
}
