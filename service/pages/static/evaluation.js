// The page of an architecture: learning curves of its stages, and noise layer by layer when it is asked for.
import { drawNoise } from "./charts/noise.js";
import { drawStages } from "./charts/stages.js";
import { tell } from "./charts/theme.js";
import { refreshEvery } from "./refresh.js";
import { enableButtons } from "./scripted.js";

const { evaluation, stage } = document.getElementById("evaluation").dataset;
const curves = document.getElementById("curves");
const noise = document.getElementById("noise");
const measure = document.getElementById("measure");
const told = document.getElementById("noise-told");
let found = null;
let measured = null;

async function showCurves() {
  const response = await fetch(`/evaluations/${evaluation}`, { headers: { Accept: "application/json" } });
  if (!response.ok) return tell(curves, "The curves could not be loaded; reload the page to try again.");
  found = await response.json();
  drawStages(curves, found);
}

const number = (value) => (value === null || value === undefined ? "–" : value < 10 ? value.toPrecision(3) : value.toFixed(1));

function showMeasured() {
  noise.hidden = false;
  drawNoise(noise, measured);
  for (const cell of document.querySelectorAll(".measured")) cell.hidden = false;
  for (const row of document.querySelectorAll("[data-layer]")) {
    const { layer } = row.dataset;
    row.querySelector(".sqnr").textContent = number(measured.weights.find((each) => each.layer === layer)?.sqnr_db);
    row.querySelector(".gain").textContent = number(measured.noise.find((each) => each.layer === layer)?.noise_gain);
  }
}

measure?.addEventListener("click", async () => {
  measure.disabled = true;
  told.textContent = "Measuring…";
  const response = await fetch(`/ui/evaluations/${evaluation}/measurements?stage=${stage}`).catch(() => null);
  measure.disabled = false;
  if (!response?.ok) {
    const problem = await response?.json().catch(() => null);
    told.textContent = problem?.detail ?? "The server does not answer; try again.";
    return;
  }
  measured = await response.json();
  told.textContent = `Measured on ${measured.examples} test examples. Signal-to-noise of the weights and of what activations hand on; noise over signal behind each layer.`;
  showMeasured();
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copies]");
  if (!button) return;
  navigator.clipboard?.writeText(document.getElementById(button.dataset.copies).textContent);
  button.textContent = "Copied";
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (found) drawStages(curves, found);
  if (measured) showMeasured();
});

enableButtons();
tell(curves, "Loading…");
showCurves();
refreshEvery(2000);
document.addEventListener("refreshed", showCurves);
