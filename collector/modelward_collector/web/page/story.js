// The timeline of one workload, in the place of the list. Its address can be kept and sent to someone.

import { get } from "./api.js";
import { el } from "./dom.js";
import { MARKS, PHASES, axis, lane, nameOf, phaseOf, rows, scale, spanWords } from "./lanes.js";
import { clock, label, number, utc } from "./text.js";

const SPANS = [["", "As it was"], ["15m", "Last 15 minutes"], ["1h", "Last hour"], ["24h", "Last 24 hours"], ["7d", "Last 7 days"]];
const NAMES = ["on", "since", "until", "model"];
const FIRST_ROWS = 100;

let shown = null; // what is asked for, or null while the list is there
let before = location.search; // the address of the list
let request = null;
let made = null;

const place = () => document.getElementById("workload");

/** Shows a workload: `of` (an id or a model), and maybe `on` (host), `since`, `until`, `model`. */
export function openStory(wanted) {
  if (!shown) before = location.search;
  history.pushState(null, "", `?${new URLSearchParams({ workload: wanted.of, ...given(wanted) })}`);
  readStory();
  scrollTo({ top: 0 });
}

/** Back to the list, if it is not there. */
export function closeStory() {
  if (!shown) return;
  history.pushState(null, "", before && !new URLSearchParams(before).has("workload") ? before : location.pathname);
  readStory();
}

/** Shows what the address names. */
export function readStory() {
  const address = new URLSearchParams(location.search);
  const of = address.get("workload");
  shown = of ? { of, ...Object.fromEntries(NAMES.map((name) => [name, address.get(name) ?? ""])) } : null;
  place().hidden = !shown;
  document.getElementById("list").classList.toggle("story", Boolean(shown));
  request?.abort();
  if (shown) load();
}

const given = (wanted) => Object.fromEntries(NAMES.filter((name) => wanted[name]).map((name) => [name, wanted[name]]));

async function load() {
  const mine = (request = new AbortController());
  place().replaceChildren(...head(null), el("p.muted", {}, "Loading the timeline"));
  try {
    const { of, on, since, until, model } = shown;
    made = await get("workload-timeline", { of, host: on, since, until, model }, mine.signal);
    draw();
  } catch (error) {
    if (error.name === "AbortError") return;
    made = null;
    place().replaceChildren(...head(null), el("p.story-note", { role: "alert" }, error.message));
  }
}

function draw() {
  const times = scale(made.since, made.until);
  const px = place().clientWidth - (matchMedia("(max-width: 720px)").matches ? 26 : 260);
  const ticks = times.ticks(px);
  const table = events();
  const choose = (mark) => table.find(mark);
  const chart = el("div.story-chart", {}, el("div.axis-row", {}, el("span"), axis(ticks)),
    el("ol.lanes", { "aria-label": "Phases and effects, a lane for each process and each load" }, ...made.lanes.map((one) => lane(one, times, ticks, px, choose))));
  place().replaceChildren(...head(made), ...made.notes.map((text) => el("p.story-note", {}, text)),
    ...(made.lanes.length ? [legend(), chart, table] : [el("p.muted", {}, "There is nothing to show.")]));
}

function head(found) {
  const back = el("button.quiet", { type: "button" }, "\u2039 Detections");
  back.addEventListener("click", closeStory);
  const span = el("select", { "aria-label": "Time span of the timeline" }, ...SPANS.map(([value, text]) => el("option", { value, selected: value === shown.since && !shown.until }, text)));
  if (shown.until || (shown.since && !SPANS.some(([value]) => value === shown.since))) {
    span.prepend(el("option", { value: "own", selected: true }, "Around the detections"));
  }
  span.addEventListener("change", () => span.value !== "own" && again({ since: span.value, until: "" }));
  const models = new Map((found?.lanes ?? []).filter((one) => one.model).map((one) => [one.digest || one.model, one.model]));
  if (shown.model && !models.has(shown.model)) models.set(shown.model, shown.model);
  const model = el("select", { "aria-label": "Model", hidden: models.size < 2 && !shown.model }, el("option", { value: "" }, "All models"),
    ...[...models].map(([value, text]) => el("option", { value, selected: value === shown.model }, text)));
  model.addEventListener("change", () => again({ model: model.value }));
  const runtime = found ? [found.runtime, found.runtime_version].filter(Boolean).join(" ") : "";
  const nodes = [el("div.story-head", {}, back, el("div.picks", {}, model, span)),
    el("h1", { id: "workload-title" }, found ? `Timeline of ${runtime || "a workload"} on ${found.host}` : "Timeline")];
  if (found) nodes.push(el("p.story-of", {}, el("span.place", {}, found.workload), el("span.muted", {}, spanWords(found))));
  if (found?.others.length) nodes.push(others(found.others));
  return nodes;
}

function others(found) {
  const list = el("p.story-note", {}, "The latest workload that loaded it. Others did too: ");
  for (const other of found.slice(0, 8)) {
    const button = el("button.link", { type: "button" }, `${other.workload} (${other.host})`);
    button.addEventListener("click", () => openStory({ of: other.workload, on: other.host }));
    list.append(button);
  }
  return list;
}

const again = (changed) => openStory({ ...shown, ...changed });

function legend() {
  const phases = new Set(made.lanes.flatMap((one) => one.bars.map(phaseOf)));
  const kinds = new Set(made.lanes.flatMap((one) => one.marks.map((mark) => mark.kind)));
  const list = el("ul.legend", { "aria-label": "Legend" });
  for (const [phase, words] of Object.entries(PHASES)) {
    if (phases.has(phase)) list.append(el("li", {}, swatch("rect", { x: 1, y: 1, width: 20, height: 10, rx: 2, class: `bar p-${phase}` }), words));
  }
  for (const [kind, { words, path }] of Object.entries(MARKS)) {
    if (kinds.has(kind)) list.append(el("li", {}, swatch("path", { d: path, transform: "translate(8 6)" }, `mark m-${kind}`), words));
  }
  return list;
}

function swatch(tag, attributes, of = "") {
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of Object.entries({ width: 22, height: 12, "aria-hidden": "true", class: of })) picture.setAttribute(name, value);
  const shape = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
  picture.append(shape);
  return picture;
}

/** The same in words, which is what a reader without eyes for pictures gets. */
function events() {
  const all = rows(made);
  const body = el("tbody");
  const add = (some) => body.append(...some.map(line));
  // The latest first of all: they are most often what is looked for, and the rest is one click away.
  add(all.slice(-FIRST_ROWS));
  const node = el("section.story-table", {}, el("h2", {}, "The same in words"), el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Phases and effects in words" },
    el("table", {}, el("thead", {}, el("tr", {}, ...["Time", "Where", "Phase", "What"].map((name) => el("th", { scope: "col" }, name)))), body)));
  const earlier = () => {
    body.replaceChildren();
    add(all);
    more?.remove();
  };
  const more = all.length > FIRST_ROWS ? el("button.quiet", { type: "button", onclick: earlier }, `Show the ${number(all.length - FIRST_ROWS)} before`) : null;
  if (more) node.insertBefore(more, node.lastElementChild);
  node.find = (mark) => {
    const of = () => [...body.children].find((row) => row.mark === mark);
    if (!of()) earlier();
    for (const row of body.querySelectorAll(".chosen")) row.classList.remove("chosen");
    of().classList.add("chosen");
    of().scrollIntoView({ block: "center", behavior: "smooth" });
  };
  return node;
}

function line(row) {
  const phase = row.phase === "tail" ? "load" : row.phase;
  const what = el("td.what", {}, row.mark?.severity ? el("span.badge", {}, label(row.mark.severity)) : null, row.what);
  if (row.mark?.severity) what.dataset.severity = row.mark.severity;
  if (row.mark?.detection) what.append(" ", el("a", { href: `/?detection=${encodeURIComponent(row.mark.detection)}` }, "Open it"));
  if (row.mark && row.mark.count > 1) what.append(el("span.times", {}, ` ${number(row.mark.count)} times`));
  const node = el("tr", {}, el("td.time", { title: utc(row.time) }, clock(row.time)), el("td.process", { title: nameOf(row.lane) }, nameOf(row.lane)),
    el("td.phase-cell", {}, phase ? el("span.phase", { "data-phase": phase }, phase) : null), what);
  node.mark = row.mark;
  return node;
}

let width = innerWidth;
addEventListener("resize", () => {
  if (!shown || !made || innerWidth === width) return;
  width = innerWidth;
  draw();
});
