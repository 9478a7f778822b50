// The list of detection groups.

import { el, reconcile } from "./dom.js";
import { detail } from "./detail.js";
import { ago, between, label, number, plural, utc } from "./text.js";

let opened = new Set();

/** Shows groups; `fresh` says whether ones that were not there before arrived just now. */
export function showGroups(list, rows, { fresh }) {
  reconcile(list, rows, (row) => row.key, (row) => create(row, fresh), update);
}

/** Opens the first group, and with the id of a detection its explanation. */
export function openFirst(list, detection) {
  const item = list.firstElementChild;
  if (!item) return;
  if (item.lastElementChild.hidden) toggle(item);
  if (detection) item.querySelector(".doing").open(detection);
}

function create(row, fresh) {
  const item = el("li.group");
  const button = el("button.summary", { type: "button", "aria-expanded": "false" });
  const body = el("div.body", { hidden: true });
  item.append(button, body);
  item.row = row;
  button.addEventListener("click", () => toggle(item));
  fill(item, row);
  if (fresh) {
    item.classList.add("fresh");
    setTimeout(() => item.classList.remove("fresh"), 4000);
  }
  if (opened.has(row.key)) toggle(item);
  return item;
}

function update(item, row) {
  const before = item.row;
  item.row = row;
  if (JSON.stringify(before) === JSON.stringify(row)) return;
  fill(item, row);
  if (before.count !== row.count && !item.lastElementChild.hidden) detail(item.lastElementChild, row, related(item));
}

/** Other groups that go back to the same load, or came from the same process tree. */
function related(item) {
  const { row } = item;
  const same = (other) => other.host_name === row.host_name
    && ((row.origin_instance !== "0" && other.origin_instance === row.origin_instance) || (row.root_id !== "" && other.root_id === row.root_id));
  return [...(item.parentElement?.children ?? [])].filter((other) => other !== item && same(other.row)).slice(0, 8).map((other) => ({
    row: other.row,
    open: () => {
      if (other.lastElementChild.hidden) toggle(other);
      other.scrollIntoView({ block: "start", behavior: "smooth" });
      other.firstElementChild.focus({ preventScroll: true });
    },
  }));
}

function toggle(item) {
  const [button, body] = item.children;
  const open = body.hidden;
  body.hidden = !open;
  button.setAttribute("aria-expanded", String(open));
  item.classList.toggle("open", open);
  if (open) {
    opened.add(item.row.key);
    detail(body, item.row, related(item));
  } else {
    opened.delete(item.row.key);
  }
}

function fill(item, row) {
  item.dataset.severity = row.severity;
  item.classList.toggle("silenced", row.all_silenced);
  const span = Number(row.count) > 1 ? between(row.first, row.last) : "";
  const times = el("span.when", { title: `first ${utc(row.first)}\nlast ${utc(row.last)}` },
    el("time.ago", { datetime: row.last }, ago(row.last)),
    Number(row.count) > 1 ? el("span.count", {}, `${plural(row.count, "detection")}${span ? ` ${span}` : ""}`) : null);
  item.firstElementChild.replaceChildren(
    el("span.badge", {}, label(row.severity)),
    el("span.text",
      {},
      el("span.sentence", {}, row.sentence || row.rule_title),
      el("span.meta", {},
        el("span.host", { title: "host" }, row.host_name),
        ...row.host_labels.map((text) => el("span.label", { title: "label of the host" }, text)),
        row.origin_model || row.model_id ? el("span.model", { title: row.origin_model ? "model whose load this goes back to" : "model" }, row.origin_model || row.model_id) : null,
        row.phase ? el("span.phase", { "data-phase": row.phase, title: "lifecycle phase" }, row.phase) : null,
        row.origin_instance !== "0" && row.phase !== "load"
          ? el("span.phase", { "data-phase": "load", title: "done by a process that came out of a model's load" }, "from a load") : null,
        Number(row.silenced) ? el("span.hush", { title: "an exception covers it" },
          row.all_silenced ? "silenced" : `${number(row.silenced)} of ${number(row.count)} silenced`) : null,
        row.late ? el("span.late", { title: "the event came after an outage" }, "late") : null,
        el("span.rule", { title: "rule" }, row.rule_title)),
      chain(row.chain)),
    times,
    el("span.chevron", { "aria-hidden": "true" }));
}

/** The process chain as chips with arrows between them; a long one keeps its ends. */
export function chain(text) {
  const names = text ? text.split(" > ") : [];
  if (!names.length) return null;
  const shown = names.length > 7 ? [...names.slice(0, 3), `${names.length - 6} more`, ...names.slice(-3)] : names;
  const node = el("span.chain", { title: text, role: "img", "aria-label": `process chain: ${names.join(", then ")}` });
  shown.forEach((name, at) => {
    if (at) node.append(el("span.arrow", { "aria-hidden": "true" }));
    node.append(el(at === shown.length - 1 ? "span.program.last" : "span.program", {}, name));
  });
  return node;
}

