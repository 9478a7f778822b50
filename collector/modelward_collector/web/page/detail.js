// What is inside a group: why it is wrong, what to do, and the events that made the rule match.

import { ApiError, get } from "./api.js";
import { commandLine, el } from "./dom.js";
import { explain } from "./explain.js";
import { silence } from "./silence.js";
import { openStory } from "./story.js";
import { clock, mitre, number, utc, what } from "./text.js";

/** Fills the body of a group; texts at once, events when they come. */
export async function detail(body, row, related) {
  const serial = (body.serial = (body.serial ?? 0) + 1);
  const old = body.querySelector(".events");
  const events = old ?? el("div.events", {}, el("p.muted", {}, "Loading events"));
  const kept = body.querySelector(".doing");
  // An explanation that somebody reads stays, even if the group grows meanwhile.
  const doing = kept && (kept.busy() || kept.of === row.detection_ids.join()) ? kept : actions(row);
  body.replaceChildren(
    el("div.advice", {},
      row.reason ? el("section", {}, el("h3", {}, "Why this is wrong"), el("p", {}, row.reason)) : null,
      row.next_step ? el("section.next", {}, el("h3", {}, "Next step"), el("p", {}, row.next_step)) : null),
    doing,
    facts(row),
    related.length ? el("section", {}, el("h3", {}, "Also of this load or process tree"), el("ul.related", {}, ...related.map(relation))) : "",
    el("section", {}, el("h3", {}, "What happened"), events));
  try {
    const found = await load(row);
    if (serial !== body.serial) return;
    events.replaceChildren(...timeline(found));
    doing.name(found.detections);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (serial === body.serial) events.replaceChildren(el("p.muted", {}, error.message));
  }
}

/** What can be done with a group, and below it the explanation of one of its detections. */
function actions(row) {
  const explained = el("div.explanation", { hidden: true });
  const words = el("button.quiet.explain", { type: "button", "aria-expanded": "false" }, "Explain step by step");
  const which = el("select", { "aria-label": "Which detection of this group", hidden: row.detection_ids.length < 2 },
    ...row.detection_ids.map((id, at) => el("option", { value: id }, `${id.slice(0, 12)}${at ? "" : ", the latest"}`)));
  const show = () => explain(explained, which.value);
  words.addEventListener("click", () => {
    explained.hidden = !explained.hidden;
    words.setAttribute("aria-expanded", String(!explained.hidden));
    words.textContent = explained.hidden ? "Explain step by step" : "Close the explanation";
    if (!explained.hidden) show();
  });
  which.addEventListener("change", () => explained.hidden || show());
  const hide = el("button.quiet.silence", { type: "button" }, "Silence\u2026");
  hide.addEventListener("click", () => silence(which.value));
  const story = el("button.quiet.story", { type: "button", hidden: !row.workload_id }, "Timeline");
  story.addEventListener("click", () => openStory({ of: row.workload_id, on: row.host_name, since: shifted(row.first, -600), until: shifted(row.last, 600) }));
  const node = el("div.doing", {}, el("div.actions", {}, words, story, hide, which), explained);
  node.of = row.detection_ids.join();
  node.busy = () => !explained.hidden;
  node.name = (detections) => {
    const words = new Map(detections.map((one) => [one.detection_id, `${clock(one.time)}  ${one.sentence || one.rule_title}`]));
    for (const option of which.options) option.textContent = words.get(option.value) ?? option.textContent;
  };
  node.open = (id) => {
    if (id && [...which.options].some((option) => option.value === id)) which.value = id;
    if (explained.hidden) words.click();
    else show();
  };
  return node;
}

function relation({ row, open }) {
  const button = el("button.link", { type: "button" },
    el("span.mark", { "aria-hidden": "true" }), el("span.time", {}, clock(row.last)), el("span", {}, row.sentence || row.rule_title));
  button.dataset.severity = row.severity;
  button.addEventListener("click", open);
  return el("li", {}, button);
}

function facts(row) {
  const list = el("dl.facts");
  const add = (name, ...value) => list.append(el("div", {}, el("dt", {}, name), el("dd", {}, ...value)));
  add("First", utc(row.first));
  add("Last", utc(row.last));
  add("Rule", row.rule_name);
  if (row.workload_id) add("Workload", row.workload_runtime ? `${row.workload_runtime}, ${row.workload_id}` : row.workload_id);
  if (row.root_id) add("Root process", row.root_id);
  if (row.model_id) add("Model", row.model_id);
  if (row.origin_model) add("Load it goes back to", row.origin_instance !== "0" ? `${row.origin_model} (instance ${row.origin_instance})` : row.origin_model);
  if (row.attack?.length) add("MITRE", ...row.attack.map(technique));
  return list;
}

function technique(id) {
  const address = mitre(id);
  return address ? el("a.technique", { href: address, target: "_blank", rel: "noopener noreferrer" }, id) : el("span.technique", {}, id);
}

async function load(row) {
  const around = { host: row.host_name, since: shifted(row.first, -3600), until: shifted(row.last, 3600) };
  const detections = (await get("detections", { ids: row.detection_ids.join(","), limit: 50 })).rows;
  const names = [...new Set(detections.flatMap((detection) => detection.events))].slice(0, 200);
  const events = names.length ? (await get("events", { ...around, names: names.join(","), limit: 200 })).rows : [];
  return { detections, events, around, total: Number(row.count) };
}

const shifted = (time, seconds) => new Date(Date.parse(time.replace(/(\.\d{3})\d+/, "$1")) + seconds * 1000).toISOString();

function timeline({ detections, events, around, total }) {
  if (!events.length) {
    // Events may have gone with their time to live, while their detections stay.
    return detections.length ? [table(detections.reverse().map(asEvent))] : [el("p.muted", {}, "The events of this group are no longer stored.")];
  }
  const rows = events.reverse();
  const nodes = [table(rows)];
  if (total > detections.length) nodes.unshift(el("p.muted", {}, `The latest ${detections.length} of ${number(total)} detections.`));
  const process = rows[rows.length - 1].process_entity_id;
  if (process) nodes.push(everything(process, around, rows));
  // Only what needs no quoting goes into a command that a person will paste into a shell.
  if (/^[0-9a-f]+-\d+-\d+$/.test(process) && /^[\w.-]+$/.test(around.host)) {
    nodes.push(commandLine(`modelward events --host ${around.host} --process ${process} --since ${around.since}`));
  }
  return nodes;
}

const asEvent = (detection) => ({ ...detection, count: "1", file_access: "read" });

function everything(process, around, rows) {
  const button = el("button.quiet", { type: "button" }, `Everything that process ${rows[rows.length - 1].process_pid} did`);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const found = (await get("events", { ...around, process, limit: 200 })).rows.reverse();
      button.replaceWith(el("h3", {}, button.textContent), table(found));
    } catch (error) {
      button.disabled = false;
      button.textContent = error.message;
    }
  });
  return button;
}

function table(rows) {
  const body = el("tbody");
  for (const row of rows) {
    body.append(el("tr", {},
      el("td.time", { title: utc(row.time) }, clock(row.time)),
      el("td.kind", {}, row.event_name),
      el("td.process", { title: row.process_chain }, row.process_executable_path.split("/").pop(), el("span.pid", {}, ` ${row.process_pid}`)),
      el("td.phase-cell", {}, el("span.phase", { "data-phase": row.lifecycle_phase }, row.lifecycle_phase)),
      el("td.what", {}, what(row), Number(row.count) > 1 ? el("span.times", {}, ` ${number(row.count)} times`) : null)));
  }
  return el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Events" },
    el("table", {},
      el("thead", {}, el("tr", {}, ...["Time", "Event", "Process", "Phase", "What"].map((name) => el("th", { scope: "col" }, name)))),
      body));
}
