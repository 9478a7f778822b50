// The lanes of a workload's timeline as pictures: bars of phases with effects on them. Positions are shares of the width.

import { el, svg } from "./dom.js";
import { clock, millis, plural, utc } from "./text.js";

const BAR = 17;
const PLAIN = 21; // height of a lane without effects
const MARKED = 40;
const ROWS = { detection: 26, other: 35 };
const LEAST = 0.35; // per cent: what is short stays visible
const LETTER_PX = 7.2; // a bar with room for its phase has it written on it
const TICK_PX = 96;
const STEPS_S = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

/** Signs of effects: the shape tells them apart, not the colour alone. */
export const MARKS = {
  detection: { words: "detection", path: "M0-6 6 0 0 6-6 0Z" },
  refused: { words: "phase declared and refused", path: "M-4-4 4 4M4-4-4 4" },
  exec: { words: "program started", path: "M0-5 5 4-5 4Z" },
  open: { words: "sensitive file opened", path: "M-4-4H4V4H-4Z" },
  connect: { words: "connection", path: "M-4 0A4 4 0 1 0 4 0 4 4 0 1 0-4 0Z" },
};

export const PHASES = {
  start: "start: it comes up", load: "load: it reads a model", tail: "load, its tail: read, not yet shown to be over",
  warmup: "warmup: read, no answer yet", serve: "serve: it answers", stop: "stop: it ends", unknown: "not known",
};

export const phaseOf = (bar) => (bar.scope === "tail" ? "tail" : bar.phase);

/** Who a lane is of, in words. */
export function nameOf(lane) {
  if (lane.instance !== "0") return `${lane.model || "a model not yet identified"}, thread ${lane.thread}`;
  return lane.process ? `${lane.program || "a process"} ${lane.pid}` : "other processes";
}

/** Where times lie between `since` and `until`. */
export function scale(since, until) {
  const [from, to] = [millis(since), millis(until)];
  const whole = Math.max(to - from, 0.001);
  return {
    from, to, whole,
    at: (time) => Math.min(Math.max(((millis(time) - from) / whole) * 100, 0), 100),
    ticks: (width) => {
      const wanted = ((whole / 1000) * TICK_PX) / Math.max(width, TICK_PX);
      const step = (STEPS_S.find((one) => one >= wanted) ?? Math.ceil(wanted / 604800) * 604800) * 1000;
      const found = [];
      for (let at = Math.ceil(from / step) * step; at <= to && found.length < 60; at += step) found.push({ at: ((at - from) / whole) * 100, text: stamp(at, step, whole) });
      return found;
    },
  };
}

function stamp(ms, step, whole) {
  const text = new Date(ms).toISOString();
  if (whole > 2 * 86400000) return `${text.slice(5, 10)} ${text.slice(11, 16)}`;
  return text.slice(11, step >= 60000 ? 16 : step >= 1000 ? 19 : 23);
}

/** The times above the lanes. */
export function axis(ticks) {
  const picture = svg("svg", { class: "axis", width: "100%", height: 18, "aria-hidden": "true" });
  for (const tick of ticks) {
    const text = svg("text", { x: `${tick.at}%`, y: 12, class: tick.at > 92 ? "last" : "" });
    text.textContent = tick.text;
    picture.append(text);
  }
  return picture;
}

/** One lane: its name, and its picture, which is `px` wide. `choose(mark)` is called when an effect is clicked. */
export function lane(made, times, ticks, px, choose) {
  const name = nameOf(made);
  const height = made.marks.length ? MARKED : PLAIN;
  const picture = svg("svg", { width: "100%", height, role: "img", class: "lane" });
  picture.setAttribute("aria-label", `${name}: ${said(made)}`);
  for (const tick of ticks) picture.append(svg("line", { x1: `${tick.at}%`, x2: `${tick.at}%`, y1: 0, y2: height, class: "grid" }));
  for (const bar of made.bars) picture.append(...drawn(bar, times, px));
  for (const mark of made.marks) picture.append(sign(mark, times, choose));
  const label = el(made.instance === "0" ? "div.lane-name.process" : "div.lane-name", { title: made.digest ? `${name}\nsha256 ${made.digest}` : name }, el("span", {}, name));
  if (made.ended) label.append(el("span.ended", {}, made.ended));
  return el("li", {}, label, el("div.lane-picture", {}, picture));
}

function drawn(bar, times, px) {
  const from = times.at(bar.from);
  const width = Math.min(Math.max(times.at(bar.to) - from, LEAST), 100 - from + LEAST);
  const phase = phaseOf(bar);
  const title = svg("title");
  title.textContent = `${PHASES[phase] ?? phase}\n${bar.before ? "before " : ""}${clock(bar.from)} to ${bar.goes_on ? "now" : clock(bar.to)}${bar.why ? `\n${bar.why}` : ""}${bar.evidence && bar.evidence !== "observed" ? `\n${bar.evidence}` : ""}`;
  const box = svg("rect", { x: `${from}%`, y: 2, width: `${width}%`, height: BAR, rx: 3, class: `bar p-${phase}` }, title);
  const name = phase === "tail" ? "load (tail)" : phase;
  if ((width / 100) * px < name.length * LETTER_PX + 10) return [box];
  const words = svg("text", { x: `${from}%`, dx: 6, y: 14, class: `words p-${phase}` });
  words.textContent = name;
  return [box, words];
}

function sign(mark, times, choose) {
  const shape = MARKS[mark.kind] ?? MARKS.exec;
  const title = svg("title");
  title.textContent = `${clock(mark.time)} ${shape.words}\n${mark.text}`;
  // A picture of its own has a place in per cent and a shape in pixels.
  const node = svg("svg", { x: `${times.at(mark.time)}%`, y: ROWS[mark.kind] ?? ROWS.other, overflow: "visible", class: `mark m-${mark.kind}` },
    title, svg("path", { d: shape.path }));
  if (mark.severity) node.setAttribute("data-severity", mark.severity);
  node.addEventListener("click", () => choose(mark));
  return node;
}

function said(made) {
  const bars = made.bars.slice(0, 20).map((bar) => `${phaseOf(bar)} ${clock(bar.from).slice(0, 8)} to ${bar.goes_on ? "now" : clock(bar.to).slice(0, 8)}`);
  if (made.bars.length > 20) bars.push(`and ${made.bars.length - 20} more`);
  for (const kind of Object.keys(MARKS)) {
    const count = made.marks.filter((mark) => mark.kind === kind).length;
    if (count) bars.push(plural(count, MARKS[kind].words));
  }
  if (made.ended) bars.push(made.ended);
  return bars.join(", ") || "nothing in this span";
}

/** Bars and effects of all lanes as rows: time, lane, what. */
export function rows(made) {
  const found = [];
  for (const one of made.lanes) {
    for (const bar of one.bars) {
      found.push({ time: bar.from, lane: one, phase: phaseOf(bar), what: `${bar.before ? "since before this span: " : ""}${PHASES[phaseOf(bar)] ?? bar.phase}${bar.why ? `; ${bar.why}` : ""}` });
    }
    for (const mark of one.marks) found.push({ time: mark.time, lane: one, phase: mark.phase, what: mark.text, mark });
  }
  return found.sort((a, b) => millis(a.time) - millis(b.time));
}

export const spanWords = (made) => `${utc(made.since).slice(0, 19)} to ${utc(made.until).slice(0, 19)} UTC`;
