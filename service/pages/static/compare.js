// Learning curves of the networks that are compared.
import { drawCurves } from "./charts/curves.js";
import { tell } from "./charts/theme.js";

const element = document.getElementById("curves");

async function load() {
  const numbers = [...document.querySelectorAll("[data-evaluation]")].map((each) => each.dataset.evaluation);
  const found = await Promise.all(numbers.map(async (number) => (await fetch(`/evaluations/${number}`)).json()));
  const ranking = element.dataset.bits;
  const points = (stage) => stage?.curve ?? [];
  const curves = found.map((evaluation) => {
    const [float, ...others] = evaluation.stages;
    const retraining = points(others.find((stage) => stage.bit_widths === ranking));
    return {
      architecture: evaluation.architecture,
      evaluation: evaluation.id,
      seed: evaluation.seed,
      status: evaluation.status,
      float_epochs: points(float).map((point) => point.epoch),
      float_accuracy: points(float).map((point) => point.validation_accuracy),
      epochs: retraining.map((point) => point.epoch),
      accuracy: retraining.map((point) => point.validation_accuracy),
    };
  });
  return { curves, ranking, boundary: Math.max(...found.map((evaluation) => evaluation.stages[0].epochs)) };
}

if (element) {
  tell(element, "Loading…");
  load()
    .then((drawn) => {
      drawCurves(element, drawn);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawCurves(element, drawn));
    })
    .catch(() => tell(element, "The curves could not be loaded; reload the page to try again."));
}
