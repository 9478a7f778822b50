// Detections over time, as stacked bars.

import { el, svg } from "./dom.js";
import { SEVERITIES, label, plural } from "./text.js";

const HEIGHT = 44;
const GAP = 2;

export function showTimeline(place, { rows, start_ms: start, step_ms: step, bins }) {
  const counts = Array.from({ length: bins }, () => ({}));
  let most = 0;
  for (const row of rows) {
    const bin = Math.min(bins - 1, Number(row.bin));
    if (bin >= 0) counts[bin][row.severity] = Number(row.n);
  }
  const total = (count) => Object.values(count).reduce((sum, n) => sum + n, 0);
  for (const count of counts) most = Math.max(most, total(count));
  place.hidden = !most;
  if (!most) return;
  const signature = JSON.stringify(counts);
  if (place.signature === signature) return;
  place.signature = signature;
  const width = 1000;
  const each = width / bins;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  picture.setAttribute("aria-label", `${plural(counts.reduce((sum, c) => sum + total(c), 0), "detection")} over time`);
  counts.forEach((count, at) => {
    const column = svg("g");
    const from = new Date(start + at * step).toISOString().slice(0, 16).replace("T", " ");
    const words = SEVERITIES.filter((s) => count[s]).map((s) => `${count[s]} ${label(s)}`).join(", ") || "none";
    const title = svg("title");
    title.textContent = `${from} UTC: ${words}`;
    column.append(title, svg("rect", { x: at * each, y: 0, width: each, height: HEIGHT, class: "hit" }));
    let y = HEIGHT;
    const drawn = Math.sqrt(total(count) / most) * (HEIGHT - 4);
    for (const severity of SEVERITIES) {
      if (!count[severity]) continue;
      const height = Math.max(3, (drawn * count[severity]) / total(count));
      y -= height;
      column.append(svg("rect", { x: at * each + GAP, y, width: each - 2 * GAP, height: height - 0.5, class: `s-${severity}` }));
    }
    if (!total(count)) column.append(svg("rect", { x: at * each + GAP, y: HEIGHT - 1.5, width: each - 2 * GAP, height: 1.5, class: "zero" }));
    picture.append(column);
  });
  const ends = el("div.ends", {}, el("span", {}, stamp(start, step * bins)), el("span", {}, "now"));
  place.replaceChildren(picture, ends);
}

function stamp(ms, span) {
  const when = new Date(ms);
  const day = when.toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
  return span > 2 * 86400000 ? day : `${day}, ${when.toISOString().slice(11, 16)} UTC`;
}
