// The page of a search: sorting and filters, charts, and, while it runs, all of it kept up to date by its events.
import { drawCurves } from "./charts/curves.js";
import { drawPareto } from "./charts/pareto.js";
import { drawSlopes } from "./charts/slopes.js";
import { tell } from "./charts/theme.js";
import { watchFilters } from "./filters.js";
import { watchButtons } from "./posting.js";
import { refresh } from "./refresh.js";
import { enableButtons } from "./scripted.js";

const LEAST_PAUSE = 1000; // ms between refreshes, however much happens

const { search, events: feed } = document.getElementById("search").dataset;
const [pareto, slopes, curves] = ["pareto", "slopes", "curves"].map((id) => document.getElementById(id));
const cost = document.getElementById("pareto-cost");
let drawn = null;

async function load(path) {
  const response = await fetch(`/ui/searches/${search}/${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

async function drawCharts({ again = false } = {}) {
  try {
    if (!again || !drawn) drawn = await Promise.all([load("charts"), load("curves")]);
  } catch {
    if (!drawn) for (const chart of [pareto, slopes, curves]) tell(chart, "The data could not be loaded; reload the page to try again.");
    return;
  }
  const [points, learning] = drawn;
  drawPareto(pareto, points, cost.value);
  drawSlopes(slopes, points);
  drawCurves(curves, learning);
}

function watchEvents() {
  const events = new EventSource(feed);
  let planned = null;
  const update = () => Promise.all([refresh(), drawCharts()]);
  const plan = () => {
    planned ??= setTimeout(() => {
      planned = null;
      update();
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
  for (const kind of ["search_finished", "search_failed", "search_cancelled"]) {
    events.addEventListener(kind, () => {
      if (isRunning) return; // it was extended since
      events.close();
      clearTimeout(planned);
      update();
    });
  }
}

watchFilters();
watchButtons();
enableButtons();
const asked = new URL(location.href).searchParams.get("cost");
if (asked && [...cost.options].some((option) => option.value === asked)) cost.value = asked;
cost.addEventListener("change", () => {
  const address = new URL(location.href);
  address.searchParams.set("cost", cost.value);
  history.replaceState(null, "", address);
  drawCharts({ again: true });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawCharts({ again: true }));
for (const chart of [pareto, slopes, curves]) tell(chart, "Loading…");
drawCharts();
if (document.getElementById("progress").dataset.status === "running") watchEvents();
