// Brings the parts of a page that are marked data-live up to date: the server makes the page again, and what differs
// is put in its place. The address says what is shown, so a user's sorting and filters stay.
import { morph } from "./morph.js";
import { enableButtons } from "./scripted.js";

let wanted = false;
let running = null;

// One request at a time: answers must not overtake each other.
export function refresh() {
  wanted = true;
  running ??= (async () => {
    try {
      while (wanted) {
        wanted = false;
        await load();
      }
    } finally {
      running = null;
    }
  })();
  return running;
}

async function load() {
  let response;
  try {
    response = await fetch(location.href, { headers: { Accept: "text/html" } });
  } catch {
    return; // the server is away for a moment; the next refresh asks again
  }
  if (response.redirected || response.status === 401) location.reload(); // to sign in again
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  enableButtons(fresh);
  for (const part of document.querySelectorAll("[data-live]")) {
    const counterpart = fresh.getElementById(part.id);
    if (counterpart) morph(part, counterpart);
  }
  document.dispatchEvent(new Event("refreshed"));
}

// Refreshes every so many milliseconds while the page is looked at and something on it is running.
export function refreshEvery(milliseconds) {
  const tick = async () => {
    if (!document.hidden && document.querySelector("[data-live][data-running]")) await refresh();
    setTimeout(tick, milliseconds);
  };
  setTimeout(tick, milliseconds);
}
