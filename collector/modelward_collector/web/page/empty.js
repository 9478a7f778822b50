// What the list says when it has nothing to show: a newcomer's first screen.

import { get } from "./api.js";
import { commandLine, el } from "./dom.js";
import { label, number, plural } from "./text.js";

/** Shows the right emptiness for the state, or nothing. */
export function showEmpty(place, { rows, filters, overview }) {
  const kind = rows.length || !overview ? "" : filters.narrowed ? "filtered" : Number(overview.totals.hosts) ? "quiet" : "new";
  place.hidden = !kind;
  if (place.dataset.kind !== kind) {
    place.dataset.kind = kind;
    place.replaceChildren(...(kind ? MAKE[kind](filters, overview) : []));
  }
  if (kind === "quiet") place.querySelector(".lead").textContent = quietLead(overview, filters);
}

const quietLead = ({ totals }, filters) =>
  `${plural(totals.hosts, "host")} ${Number(totals.hosts) === 1 ? "is" : "are"} watched, ${plural(totals.models, "model")} known, ${number(totals.stored)} events stored. No rule matched in the ${filters.span}.`;

const MAKE = {
  filtered: (filters) => {
    const button = el("button.quiet", { type: "button" }, "Clear filters");
    button.addEventListener("click", () => filters.clear());
    return [el("div.empty", {}, el("h2", {}, "Nothing matches these filters"), el("p", {}, "Other groups may be there without them."), button)];
  },
  quiet: () => {
    const list = el("ul.watching");
    fillRules(list);
    return [el("div.empty", {}, el("h2", {}, "Nothing wrong"), el("p.lead", {}), el("h3", {}, "What is being watched for"), list)];
  },
  new: (filters, overview) => {
    // A collector that listens on every address does not know by which one agents reach it.
    const address = overview.agents.replace(/^(0\.0\.0\.0|\[::\])(?=:)/, location.hostname);
    const command = `modelward-agent run --collector ${address} --state /var/lib/modelward-agent`;
    return [el("div.empty.start", {},
      el("h2", {}, "Start the first agent"),
      el("p", {}, "Modelward watches what model servers do to their host, by model and lifecycle phase. It sees nothing until an agent runs beside one."),
      el("ol.steps", {},
        el("li", {}, el("strong", {}, "See what the host offers"), el("p", {}, "On the machine that serves models, as root:"), commandLine("modelward-agent check")),
        el("li", {}, el("strong", {}, "Run the agent"), el("p", {}, "Servers that run already are found too. Nothing has to be restarted."), commandLine(command)),
        el("li", {}, el("strong", {}, "Load a model as always"), el("p", {}, "The host and its models appear here by themselves. What a load or a request should never do becomes a detection, with the model and the processes behind it."))),
      el("p.muted", {}, "Agents on other machines need certificates; 'modelward-collector run --help' says how."))];
  },
};

async function fillRules(list) {
  let rules;
  try {
    rules = (await get("rules")).rows;
  } catch {
    return;
  }
  const order = ["critical", "high", "medium", "low", "informational"];
  rules.sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity) || a.title.localeCompare(b.title));
  list.replaceChildren(...rules.map((rule) => {
    const item = el("li", { title: rule.reason }, el("span.badge", {}, label(rule.severity)), el("span", {}, rule.title));
    item.dataset.severity = rule.severity;
    return item;
  }));
}
