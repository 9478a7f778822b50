// One detection in words, with its evidence. The words come from the collector; here they are laid out, as text only.

import { get } from "./api.js";
import { commandLine, el } from "./dom.js";
import { clock, utc } from "./text.js";

const MARKS = { this: ["\u25b6", "this detection"], good: ["\u2714", "sure"], warn: ["!", "unsure"] };

/** Fills `place` with the explanation of a detection. */
export async function explain(place, id) {
  place.replaceChildren(el("p.muted", {}, "Loading the explanation"));
  try {
    const made = await get(`detections/${encodeURIComponent(id)}/explain`);
    place.replaceChildren(...head(made), ...made.sections.map(section));
  } catch (error) {
    place.replaceChildren(el("p.muted", {}, error.message));
  }
}

const head = (made) => [
  el("h3.explained", {}, "This detection, from the kernel to this page"),
  el("p.muted.id", {}, `Detection ${made.id}, ${utc(made.time)}`),
];

function section(made) {
  const node = el("section.why", {}, el("h4", {}, made.title), ...made.sentences.map((text) => el("p", {}, text)));
  if (made.evidence.length) node.append(evidence(made.title, made.evidence));
  node.append(...made.commands.map(commandLine));
  if (made.terms.length) {
    node.append(el("dl.terms", {}, ...made.terms.map((term) => el("div", {}, el("dt", {}, term.word), el("dd", {}, term.meaning)))));
  }
  return node;
}

function evidence(title, rows) {
  const timed = rows.some((row) => row.when);
  const body = el("tbody");
  for (const row of rows) {
    const [sign, words] = MARKS[row.mark] ?? ["", ""];
    body.append(el("tr", { "data-mark": row.mark || null },
      el("td.sign", { title: words || null }, el("span", { "aria-hidden": "true" }, sign), words ? el("span.visually-hidden", {}, words) : null),
      timed ? el("td.time", { title: row.when ? utc(row.when) : null }, row.when ? clock(row.when) : "") : null,
      el("td.about", {}, row.what),
      el("td.what", {}, row.text)));
  }
  return el("div.scroll", { tabindex: "0", role: "region", "aria-label": `Evidence: ${title}` }, el("table.evidence", {}, body));
}
