// Learning curves: float epochs, and behind the boundary those of retraining at the ranking bit widths.
import { axis, colors, draw, openOnClick, series, tell } from "./theme.js";

export function drawCurves(element, { curves, boundary, ranking }) {
  const known = curves.filter((curve) => curve.float_epochs.length || curve.epochs.length);
  if (!known.length) return tell(element, "Curves appear with the first epochs.");
  const { quiet } = colors();
  const traces = known.map((curve, index) => ({
    name: curve.architecture + (known.some((other) => other !== curve && other.architecture === curve.architecture) ? `, seed ${curve.seed}` : ""),
    x: [...curve.float_epochs, ...curve.epochs.map((epoch) => boundary + epoch)],
    y: [...curve.float_accuracy, ...curve.accuracy],
    customdata: [...curve.float_epochs, ...curve.epochs].map(() => curve.evaluation),
    mode: "lines+markers",
    line: { color: series(index), width: 2, dash: curve.status === "running" ? "dot" : "solid" },
    marker: { size: 5 },
    hovertemplate: "<b>%{fullData.name}</b><br>%{y:.2f} % after epoch %{x}<extra></extra>",
  }));
  const note = (x, text, side) => ({ x, xref: "x", y: 0, yref: "paper", yanchor: "bottom", xanchor: side, text, showarrow: false, font: { color: quiet } });
  draw(element, traces, {
    xaxis: axis("Epoch", { rangemode: "tozero", tickformat: "d" }),
    yaxis: axis("Validation accuracy, %"),
    shapes: [{ type: "line", xref: "x", yref: "paper", x0: boundary + 0.5, x1: boundary + 0.5, y0: 0, y1: 1, line: { color: quiet, width: 1.5, dash: "dash" } }],
    annotations: [note(boundary + 0.5, "float ", "right"), note(boundary + 0.5, ` ${ranking}`, "left")],
  });
  openOnClick(element);
}
