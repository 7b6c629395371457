// Signal-to-quantization-noise ratios of weights and activations, and how activation noise passes through the layers.
import { axis, colors, draw, series } from "./theme.js";

export function drawNoise(element, { weights, activations, noise }) {
  const { ink } = colors();
  const ratios = (name, measured, color, symbol) => ({
    name,
    x: measured.map((each) => each.layer),
    y: measured.map((each) => each.sqnr_db),
    mode: "markers",
    marker: { color, size: 8, symbol },
    hovertemplate: "<b>%{x}</b><br>%{y:.1f} dB<extra></extra>",
  });
  const layers = noise.map((each) => each.layer);
  const traces = [
    {
      name: "noise / signal behind the layer",
      x: layers,
      y: noise.map((each) => each.output_noise_ratio || null),
      yaxis: "y2",
      mode: "lines+markers",
      line: { color: series(2), width: 2 },
      marker: { size: 5 },
      hovertemplate: "<b>%{x}</b><br>%{y:.3g}<extra></extra>",
    },
  ];
  if (weights.length) traces.unshift(ratios("weights", weights, series(0), "circle"));
  if (activations.length) traces.push({ ...ratios("activations", activations, series(1), "diamond"), xaxis: "x2", yaxis: "y3" });
  draw(element, traces, {
    grid: { rows: 1, columns: activations.length ? 2 : 1, pattern: "independent" },
    margin: { l: 48, r: 56, t: 12, b: 90 },
    xaxis: axis("", { type: "category", tickangle: -60, domain: activations.length ? [0, 0.56] : [0, 1], tickfont: { color: ink, size: 10 } }),
    xaxis2: axis("", { type: "category", tickangle: -60, domain: [0.66, 1], anchor: "y3", tickfont: { color: ink, size: 10 } }),
    yaxis: axis("Weights, SQNR in dB"),
    yaxis2: axis("Noise / signal", { overlaying: "y", side: "right", showgrid: false, rangemode: "tozero" }),
    yaxis3: axis("Activations, SQNR in dB", { anchor: "x2" }),
  });
}
