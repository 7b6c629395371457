// Learning curves of one evaluation: the float stage, and behind the boundary every retraining.
import { axis, colors, draw, series, tell } from "./theme.js";

export function drawStages(element, { stages }) {
  if (!stages.some((stage) => stage.curve.length)) return tell(element, "Curves appear with the first epochs.");
  const { quiet } = colors();
  const boundary = stages[0].epochs;
  const traces = stages
    .filter((stage) => stage.curve.length)
    .map((stage, index) => ({
      name: stage.bit_widths,
      x: stage.curve.map((point) => point.epoch + (stage === stages[0] ? 0 : boundary)),
      y: stage.curve.map((point) => point.validation_accuracy),
      mode: "lines+markers",
      line: { color: series(index), width: 2, dash: stage.status === "pending" ? "dot" : "solid" },
      marker: { size: 5 },
      hovertemplate: "<b>%{fullData.name}</b><br>%{y:.2f} % after epoch %{x}<extra></extra>",
    }));
  const note = (text, side) => ({ x: boundary + 0.5, xref: "x", y: 0, yref: "paper", yanchor: "bottom", xanchor: side, text, showarrow: false, font: { color: quiet } });
  draw(element, traces, {
    xaxis: axis("Epoch", { rangemode: "tozero", tickformat: "d" }),
    yaxis: axis("Validation accuracy, %"),
    shapes: [{ type: "line", xref: "x", yref: "paper", x0: boundary + 0.5, x1: boundary + 0.5, y0: 0, y1: 1, line: { color: quiet, width: 1.5, dash: "dash" } }],
    annotations: [note("float ", "right"), note(" quantized", "left")],
  });
}
