// Keeps a running search's page up to date, by its events.
import { refresh } from "./refresh.js";

const LEAST_PAUSE = 750; // ms between refreshes: opening a long search replays all its events

const progress = document.getElementById("progress");

if (progress.dataset.status === "running") {
  const events = new EventSource(`/searches/${document.getElementById("search").dataset.search}/events`);
  let planned = null;
  const plan = () => {
    planned ??= setTimeout(() => {
      planned = null;
      refresh();
    }, LEAST_PAUSE);
  };
  let isRunning = true;
  events.addEventListener("progress", (event) => {
    isRunning = JSON.parse(event.data).status === "running";
    plan();
  });
  for (const kind of ["stage_ended", "evaluation_started", "evaluation_failed", "evaluation_lost"]) {
    events.addEventListener(kind, plan);
  }
  for (const kind of ["search_finished", "search_cancelled"]) {
    events.addEventListener(kind, () => {
      if (isRunning) return; // it was extended since
      events.close();
      clearTimeout(planned);
      refresh();
    });
  }
}
