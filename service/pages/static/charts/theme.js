// What all charts have in common: the page's colours and fonts, and how they are drawn and drawn again.

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const blocks = new Map();

// A block kind has one colour on the whole page.
export function colorOf(block) {
  if (!blocks.has(block)) blocks.set(block, (blocks.size % 8) + 1);
  return color(`series-${blocks.get(block)}`);
}

export const nameOf = (point) => point.architecture + (point.provisional ? " (provisional)" : "");
export const series = (index) => color(`series-${(index % 8) + 1}`);
export const colors = () => ({ ink: color("ink"), quiet: color("quiet"), line: color("line"), paper: color("paper"), bad: color("bad") });

export function axis(title, more = {}) {
  const { quiet, line } = colors();
  return { title: { text: title, font: { size: 12 } }, gridcolor: line, linecolor: line, zeroline: false, tickfont: { color: quiet }, automargin: true, ...more };
}

export function draw(element, traces, layout) {
  const { ink, quiet, paper, line } = colors();
  element.querySelector(":scope > p")?.remove();
  Plotly.react(
    element,
    traces,
    {
      font: { family: "system-ui, sans-serif", size: 12, color: quiet },
      paper_bgcolor: "transparent",
      plot_bgcolor: "transparent",
      margin: { l: 48, r: 16, t: 12, b: 44 },
      hoverlabel: { bgcolor: paper, bordercolor: line, font: { color: ink, family: "system-ui, sans-serif" } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: ink } },
      hovermode: "closest",
      uirevision: "same", // what a user zoomed into or hid stays so
      ...layout,
    },
    { displayModeBar: false, responsive: true },
  );
}

// What is told in place of a chart that has nothing to show yet.
export function tell(element, text) {
  if (element.data) Plotly.purge(element);
  const told = document.createElement("p");
  told.textContent = text;
  element.replaceChildren(told);
}

// A click on a point opens its architecture; the table has the same links for those without a mouse.
export function openOnClick(element) {
  if (element.dataset.opens) return;
  element.dataset.opens = "true";
  element.on("plotly_click", ({ points }) => {
    const evaluation = points[0].customdata;
    if (evaluation) location.href = `/ui/evaluations/${evaluation}`;
  });
}
