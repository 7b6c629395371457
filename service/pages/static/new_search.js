// The form of a new search: its fields are in the address, what it would train is told while it is filled in, and
// errors stand at their fields. The server says what is wrong; nothing of its rules is here.
import { post } from "./posting.js";
import { enableButtons } from "./scripted.js";

const PAUSE = 300; // ms after the last keystroke

const form = document.getElementById("new-search");
const told = document.getElementById("told");
const listed = document.getElementById("listed");
const start = document.getElementById("start");

const words = (text) => text.split(/[\s,]+/).filter(Boolean);
// What is no number is sent as it is, for the server to say so.
const numberOf = (text) => (text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text.trim());
function jsonOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
const readers = {
  json: jsonOf,
  text: (text) => text,
  names: words,
  integer: (text) => numberOf(text.replace(/[_ ]/g, "")),
  number: numberOf,
  integers: (text) => words(text).map(numberOf),
  numbers: (text) => words(text).map(numberOf),
  hours: (text) => (typeof numberOf(text) === "number" ? numberOf(text) * 3600 : text),
};

function checkedBlocks() {
  const boxes = [...form.querySelectorAll("[name=blocks]")];
  const isUsual = boxes.every((box) => box.checked === box.hasAttribute("data-usual"));
  return isUsual ? undefined : boxes.filter((box) => box.checked).map((box) => box.value);
}

function asked() {
  const body = {};
  for (const control of form.elements) {
    if (!control.name || control.name === "blocks" || control.value.trim() === "") continue;
    body[control.name] = readers[control.dataset.kind](control.value);
  }
  const { recipe_changes: changes } = body;
  delete body.recipe_changes;
  if (changes !== undefined) body.recipe = typeof changes === "object" ? { name: body.recipe, ...changes } : changes;
  const blocks = checkedBlocks();
  if (blocks && !body.architectures) body.blocks = blocks;
  return body;
}

function keepInAddress() {
  const address = new URL(location.href);
  address.search = "";
  for (const control of form.elements) {
    if (control.name && control.name !== "blocks" && control.value !== control.dataset.first) address.searchParams.set(control.name, control.value);
  }
  address.searchParams.set("task", form.elements.task.value);
  for (const block of checkedBlocks() ?? []) address.searchParams.append("blocks", block);
  history.replaceState(null, "", address);
}

function fillFromAddress() {
  const given = new URL(location.href).searchParams;
  for (const control of form.elements) {
    if (!control.name || control.name === "blocks") continue;
    control.dataset.first = control.value;
    if (control.name !== "task" && given.has(control.name)) control.value = given.get(control.name);
    if (control.closest("details") && control.value !== control.dataset.first) control.closest("details").open = true;
  }
  const blocks = given.getAll("blocks");
  if (blocks.length) for (const box of form.querySelectorAll("[name=blocks]")) box.checked = blocks.includes(box.value);
}

function showErrors(errors) {
  for (const place of document.querySelectorAll(".error")) place.textContent = "";
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  for (const { field, value, problem, remedy } of errors) {
    const name = field.split(".")[0];
    const place = document.getElementById(`error-${name}`) ?? document.getElementById("error-general");
    const what = value === null || typeof value === "object" ? "" : `${value} `;
    place.textContent = place.id === "error-general" ? `${field}: ${what}${problem}; ${remedy}` : `${what}${problem}; ${remedy}.`;
    document.getElementById(name)?.setAttribute("aria-invalid", "true");
    place.closest("details")?.setAttribute("open", "");
  }
}

async function problemsOf(response) {
  const problem = await response.json().catch(() => ({}));
  if (problem.errors?.length) return problem.errors;
  return [{ field: "request", value: null, problem: problem.detail ?? `was answered with ${response.status}`, remedy: "try again" }];
}

/* As service/durations.py. */
function inWords(hours) {
  const parts = [];
  let left = Math.round(hours * 3600);
  if (left < 1) return "< 1 s";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const amount = Math.floor(left / size);
    left %= size;
    if (amount) parts.push(`${amount} ${unit}`);
    else if (parts.length) break;
  }
  return parts.slice(0, 2).join(" ");
}

function element(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat("en");

function showEstimate(found) {
  const figures = element("dl", "", "figures");
  const workers = found.workers === 1 ? "1 worker" : `${found.workers} workers`;
  for (const [name, value] of [
    ["Candidates", whole.format(found.candidates)],
    ["To train", `${whole.format(found.evaluations)} evaluation${found.evaluations === 1 ? "" : "s"}`],
    [`On ${workers}`, found.evaluations ? `about ${inWords(found.hours)}` : "nothing to wait for"],
  ]) {
    const pair = element("div", "");
    pair.append(element("dt", name), element("dd", value));
    figures.append(pair);
  }
  told.replaceChildren(figures, element("p", `Rests on ${found.rests_on}.`, "hint"));
  if (!found.workers_live) told.append(element("p", "No worker runs at the moment: the search waits for one.", "waits"));
  if (found.ended_by_time_limit) told.append(element("p", "The time limit ends it before everything is trained.", "waits"));
  const ranking = found.bit_widths[0];
  listed.querySelector("tbody").replaceChildren(
    ...found.listed.map(({ costs, stages_stored }) => {
      const row = element("tr", "");
      const name = element("td", costs.architecture);
      if (stages_stored) name.append(" ", element("span", `${stages_stored} stored`, "quiet"));
      row.append(
        name,
        element("td", whole.format(costs.parameters), "number"),
        element("td", whole.format(costs.model_bytes[ranking]), "number"),
        element("td", short.format(costs.bit_operations[ranking]), "number"),
      );
      return row;
    }),
  );
  listed.hidden = !found.listed.length;
}

let latest = 0;

async function estimate() {
  const number = ++latest;
  told.setAttribute("aria-busy", "true");
  let response;
  try {
    response = await post("/search/estimate?listed=500", asked());
  } catch {
    response = null;
  }
  if (number !== latest) return; // a newer one is under way
  told.setAttribute("aria-busy", "false");
  if (!response) return told.replaceChildren(element("p", "The server does not answer.", "waits"));
  if (response.ok) {
    showErrors([]);
    showEstimate(await response.json());
  } else {
    showErrors(await problemsOf(response));
    told.replaceChildren(element("p", "This cannot be searched as it is: the fields say why.", "waits"));
    listed.hidden = true;
  }
}

let planned = null;
form.addEventListener("input", (event) => {
  keepInAddress();
  if (event.target.name === "task") return location.reload(); // its blocks, recipes and data are the server's to tell
  clearTimeout(planned);
  planned = setTimeout(estimate, PAUSE);
});

// A search that is posted twice, because the answer to the first was lost, is one search. A changed one has another key.
let key = null;
let posted = null;
function keyOf(body) {
  if (posted !== body) [posted, key] = [body, self.crypto?.randomUUID?.()];
  return key ? { "Idempotency-Key": key } : {};
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!start || start.disabled) return;
  start.disabled = true;
  try {
    const body = asked();
    const response = await post("/search", body, keyOf(JSON.stringify(body)));
    if (response.ok) {
      location.assign((await response.json()).links.page);
      return;
    }
    showErrors(await problemsOf(response));
    form.querySelector("[aria-invalid]")?.focus();
  } catch {
    showErrors([{ field: "server", value: null, problem: "does not answer", remedy: "try again" }]);
  }
  start.disabled = false;
});

enableButtons();
fillFromAddress();
estimate();
