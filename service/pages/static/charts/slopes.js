// Each architecture from its float accuracy to that at the ranking bit widths.
import { axis, colorOf, colors, draw, nameOf, openOnClick, tell } from "./theme.js";

export function drawSlopes(element, { points, ranking }) {
  const both = points.filter((point) => point.float_accuracy !== null);
  if (!both.length) return tell(element, `Lines appear with the first ${ranking} results.`);
  const { ink } = colors();
  const complete = both.filter((point) => !point.provisional);
  const best = complete[0]; // none while all are provisional
  const room = element.clientWidth < 480 ? 1.2 : 0.55; // for the names beside the lines
  const floatBest = complete.length ? complete.reduce((one, other) => (other.float_accuracy > one.float_accuracy ? other : one)) : undefined;
  const named = new Set();
  const traces = both.map((point) => {
    const isMarked = point === best || point === floatBest;
    const isFirst = !named.has(point.block);
    named.add(point.block);
    return {
      name: point.block,
      legendgroup: point.block,
      showlegend: isFirst,
      x: [0, 1],
      y: [point.float_accuracy, point.accuracy],
      customdata: [point.evaluation, point.evaluation],
      text: [nameOf(point), nameOf(point)],
      mode: "lines+markers",
      opacity: isMarked ? 1 : 0.55,
      line: { color: colorOf(point.block), width: isMarked ? 3 : 1.5 },
      marker: { size: isMarked ? 9 : 6 },
      hovertemplate: "<b>%{text}</b><br>%{y:.2f} %<extra></extra>",
    };
  });
  const label = (point, x, y, text) => ({
    x,
    y,
    text: `${point.architecture}<br>${text}`,
    showarrow: false,
    xanchor: x ? "left" : "right",
    xshift: x ? 10 : -10,
    align: x ? "left" : "right",
    font: { color: ink, size: 11 },
  });
  const annotations = best ? [label(best, 1, best.accuracy, `best ${ranking}`), label(floatBest, 0, floatBest.float_accuracy, "best float")] : [];
  if (floatBest !== best) {
    annotations.push(label(floatBest, 1, floatBest.accuracy, `rank ${floatBest.rank}`));
    const values = both.flatMap((point) => [point.float_accuracy, point.accuracy]);
    const isClose = best.accuracy - floatBest.accuracy < 0.15 * (Math.max(...values) - Math.min(...values));
    if (isClose) [annotations[0].yanchor, annotations[2].yanchor] = ["bottom", "top"]; // one above the other
  }
  draw(element, traces, {
    xaxis: axis("", { range: [-room, 1 + room], tickvals: [0, 1], ticktext: ["float", ranking], tickfont: { color: ink, size: 13 }, fixedrange: true }),
    yaxis: axis("Validation accuracy, %"),
    annotations,
  });
  openOnClick(element);
}
