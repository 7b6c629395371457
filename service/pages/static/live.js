// Keeps the leaderboard of a running search up to date: progress from the events themselves, the table from the server.
"use strict";

const board = document.getElementById("board");

if (board && board.dataset.status === "running") {
  const search = board.dataset.search;
  const events = new EventSource(`/searches/${search}/events`);

  // One request at a time: opening a long search replays all its events, and answers must not overtake each other.
  let wanted = false;
  let running = null;
  function refresh() {
    wanted = true;
    running ??= (async () => {
      while (wanted) {
        wanted = false;
        const response = await fetch(`/searches/${search}/board`);
        if (response.status === 401) location.reload(); // to sign in again
        if (response.ok) board.innerHTML = await response.text();
      }
      running = null;
    })();
    return running;
  }

  let isRunning = true;
  events.addEventListener("progress", (event) => {
    const now = JSON.parse(event.data);
    isRunning = now.status === "running";
    const bar = document.getElementById("progress");
    bar.max = now.epochs_total;
    bar.value = now.epochs_done;
    document.getElementById("told").textContent =
      `${now.proposed} of ${now.candidates} candidates proposed, ${now.epochs_done} of ${now.epochs_total} epochs`;
    document.getElementById("waits").textContent = now.waits_for ? `Waiting: ${now.waits_for}` : "";
  });
  events.addEventListener("stage_ended", refresh);
  for (const kind of ["search_finished", "search_cancelled"]) {
    events.addEventListener(kind, async () => {
      if (isRunning) return; // it was extended since
      events.close();
      await refresh();
      const status = document.querySelector(`[data-status-of="${search}"]`);
      if (status) {
        status.textContent = kind.replace("search_", "");
        status.className = `status ${status.textContent}`;
      }
    });
  }
}
