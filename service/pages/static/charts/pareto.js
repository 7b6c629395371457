// Accuracy at the ranking bit widths against a cost, with the Pareto front and the budget.
import { axis, colorOf, colors, draw, nameOf, openOnClick, tell } from "./theme.js";

const TITLES = { parameters: "Parameters", model_bytes: "Bytes", bit_operations: "Bit operations", macs: "MACs" };

export function drawPareto(element, { points, budgets, ranking }, cost) {
  if (!points.length) return tell(element, `Points appear with the first ${ranking} results.`);
  const { ink, quiet, bad } = colors();
  const front = points.filter((point) => point.on_front[cost]).sort((one, other) => one.costs[cost] - other.costs[cost]);
  const traces = [
    {
      name: "Pareto front",
      x: front.map((point) => point.costs[cost]),
      y: front.map((point) => point.accuracy),
      mode: "lines",
      line: { color: quiet, width: 1.5, shape: "hv" },
      hoverinfo: "skip",
    },
  ];
  for (const block of [...new Set(points.map((point) => point.block))].sort()) {
    const own = points.filter((point) => point.block === block);
    const known = own.every((point) => point.low !== null);
    traces.push({
      name: block,
      x: own.map((point) => point.costs[cost]),
      y: own.map((point) => point.accuracy),
      error_y: known && {
        type: "data",
        symmetric: false,
        array: own.map((point) => point.high - point.accuracy),
        arrayminus: own.map((point) => point.accuracy - point.low),
        thickness: 1,
        width: 0,
        color: colorOf(block),
      },
      text: own.map((point) => `${nameOf(point)}, rank ${point.rank}`),
      customdata: own.map((point) => point.evaluation),
      mode: "markers",
      marker: { color: colorOf(block), symbol: own.map((point) => (point.provisional ? "circle-open" : "circle")), size: own.map((point) => (point.on_front[cost] ? 11 : 8)) },
      hovertemplate: `<b>%{text}</b><br>%{y:.2f} % at %{x:,} ${TITLES[cost].toLowerCase()}<extra></extra>`,
    });
  }
  const budget = budgets[cost];
  const shapes = budget
    ? [{ type: "line", xref: "x", yref: "paper", x0: budget, x1: budget, y0: 0, y1: 1, line: { color: bad, width: 1.5, dash: "dash" } }]
    : [];
  const annotations = budget
    ? [{ x: budget, xref: "x", y: 0, yref: "paper", yanchor: "bottom", xanchor: "right", text: "budget ", showarrow: false, font: { color: bad } }]
    : [];
  const costs = points.map((point) => point.costs[cost]).concat(budget ? [budget] : []);
  const low = Math.min(...costs);
  const high = Math.max(...costs);
  const room = (high - low || high) * 0.06;
  draw(element, traces, {
    xaxis: axis(TITLES[cost], { range: [low - room, high + room], tickformat: "~s" }),
    yaxis: axis(`${ranking} validation accuracy, %`, { color: ink }),
    shapes,
    annotations,
    uirevision: cost,
  });
  openOnClick(element);
}
