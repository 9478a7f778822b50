// Beside the list: coverage (silent and lossy hosts, broken rules), hosts, recent models, and the totals in the header.

import { get } from "./api.js";
import { el, reconcile } from "./dom.js";
import { ago, number, plural, short, utc } from "./text.js";

const byId = (id) => document.getElementById(id);

const GB = 1e9;

const kept = (store) => `${number(store.events)} events of ${plural(store.days, "day")} are kept (at most ${plural(store.retention_days, "day")}), `
  + `${number(store.detections)} detections (${plural(store.detection_retention_days, "day")}), `
  + `${(Number(store.bytes) / GB).toFixed(1)} of ${(Number(store.max_bytes) / GB).toFixed(0)} GB`;

export function showTotals({ totals, store }) {
  const items = [
    ["Hosts", totals.hosts, ""],
    ["Models", totals.models, ""],
    ["Rules", totals.rules, ""],
    ["Events", totals.stored, kept(store)],
  ];
  reconcile(byId("totals"), items, ([name]) => name,
    ([name, value, more]) => el("div", {}, el("dt", {}, name), el("dd", { title: more || number(value) }, short(value))),
    (node, [, value, more]) => {
      node.lastElementChild.textContent = short(value);
      node.lastElementChild.title = more || number(value);
    });
}

const NOT_WATCHING = {
  paused: "No hook is in place: somebody on the host asked for that.",
  degraded: "The agent runs without its hooks, so nothing on the host is seen.",
};

const whyNot = (host) => `${NOT_WATCHING[host.mode]}${host.mode_reason ? ` Reason: ${host.mode_reason}` : ""}`;

export function showCoverage(overview) {
  const { totals, hosts, problems, outputs, store } = overview;
  const items = [];
  if (store.problem) items.push({ key: "store", kind: "bad", title: "The store is full", text: store.problem });
  const silent = hosts.filter((host) => host.silent);
  if (silent.length) {
    items.push({
      key: "silent", kind: "bad",
      title: silent.length === 1 ? `${silent[0].host_name} is silent` : `${number(totals.silent)} hosts are silent`,
      text: silent.length === 1
        ? `No word for ${ago(silent[0].last_seen).replace(" ago", "")}. Its agent or its network is down, or someone stopped it.`
        : `${some(silent)}. Their agents or their network are down, or someone stopped them.`,
    });
  }
  for (const host of hosts.filter((host) => !host.silent && NOT_WATCHING[host.mode])) {
    items.push({ key: `mode ${host.host_name}`, kind: "bad", title: `${host.host_name} is ${host.mode}`, text: whyNot(host) });
  }
  const lossy = hosts.filter((host) => Number(host.lost) > 0);
  if (lossy.length) {
    items.push({
      key: "lossy", kind: "warn",
      title: lossy.length === 1 ? `${lossy[0].host_name} lost ${plural(lossy[0].lost, "event")}` : `${number(totals.lossy)} hosts lost events`,
      text: lossy.length === 1 ? `${share(lossy[0])} of what its hooks saw.` : lossy.slice(0, 5).map((host) => `${host.host_name} ${share(host)}`).join(", "),
    });
  }
  for (const host of hosts) {
    for (const problem of host.problems) items.push({ key: `problem ${host.host_name} ${problem}`, kind: "warn", title: host.host_name, text: problem });
  }
  for (const output of outputs) {
    items.push(output.problem
      ? { key: `output ${output.output}`, kind: "bad", title: `Output ${output.output} fails`, text: output.problem, place: output.address }
      : { key: `output ${output.output}`, kind: "good", title: `Output ${output.output}`, text: "Detections are delivered.", place: output.address });
  }
  for (const [file, found] of Map.groupBy(problems, (problem) => problem.file)) {
    const lines = found.slice(0, 3).map(({ line, message }) => (line ? `${message}, line ${line}` : message));
    if (found.length > 3) lines.push(`and ${found.length - 3} more`);
    items.push({ key: `rule ${file}`, kind: "bad", title: `Rule ${file.split("/").pop()} is broken`, text: lines.join("\n"), place: file });
  }
  if (items.every((item) => item.kind === "good") && Number(totals.hosts)) {
    items.unshift({ key: "good", kind: "good", title: "Complete", text: `${plural(totals.hosts, "host")} ${Number(totals.hosts) === 1 ? "reports" : "report"}, nothing was lost, ${plural(totals.rules, "rule")} in force.` });
  }
  if (!items.length) items.push({ key: "none", kind: "idle", title: "No host yet", text: `${plural(totals.rules, "rule")} in force, waiting for the first agent.` });
  reconcile(byId("attention-body"), items, (item) => item.key, coverageItem, (node, item) => {
    node.querySelector("strong").textContent = item.title;
    node.querySelector(".text").textContent = item.text;
    node.className = `note ${item.kind}`;
  });
}

const some = (hosts) => hosts.slice(0, 5).map((host) => host.host_name).join(", ") + (hosts.length > 5 ? ` and ${hosts.length - 5} more` : "");

function share(host) {
  const percent = (100 * Number(host.lost)) / Math.max(1, Number(host.seen));
  return percent < 0.01 ? "under 0.01 %" : `${percent.toFixed(percent < 1 ? 2 : 1)} %`;
}

const coverageItem = (item) => el(`div.note.${item.kind}`, {},
  el("span.dot", { "aria-hidden": "true" }),
  el("div", {}, el("strong", {}, item.title), el("p.text", {}, item.text), item.place ? el("p.place", {}, item.place) : null));

export function showHosts(hosts, totals, only) {
  const list = byId("hosts");
  reconcile(list, hosts, (host) => host.host_name, (host) => hostItem(host, only), (node, host) => fillHost(node, host));
  list.parentElement.hidden = !hosts.length;
  list.parentElement.querySelector("h2").textContent = Number(totals.hosts) > hosts.length ? `Hosts, ${hosts.length} of ${number(totals.hosts)}` : "Hosts";
}

function hostItem(host, only) {
  const doors = el("div.doors", {}, el("p.muted", {}, "Loading"));
  const more = el("details", {}, el("summary", {}), doors);
  more.addEventListener("toggle", () => more.open && showDoors(doors, host.host_name, only));
  const node = el("li.host-row", {}, more);
  fillHost(node, host);
  return node;
}

function fillHost(node, host) {
  const state = host.silent ? "silent" : !host.connected ? "away" : NOT_WATCHING[host.mode] ? host.mode : "connected";
  node.querySelector("summary").replaceChildren(
    el(`span.dot.${state}`, { "aria-hidden": "true" }),
    el("span.name", {}, host.host_name),
    el("span.side", { title: `last word ${utc(host.last_seen)}` }, state === "connected" ? plural(host.tracked_processes, "process", "processes") : NOT_WATCHING[state] ? state : `${state}, ${ago(host.last_seen)}`));
}

async function showDoors(place, name, only) {
  let host;
  try {
    host = (await get("hosts", { host: name })).rows[0];
  } catch (error) {
    place.replaceChildren(el("p.muted", {}, error.message));
    return;
  }
  if (!host) return;
  const facts = el("dl.facts", {}, ...[
    ["Agent", host.agent_version], ["Kernel", host.kernel_release], ["First seen", utc(host.first_seen)],
    ["Seen", number(host.seen)], ["Stored", number(host.stored)], ["Lost", number(host.lost)],
  ].map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, value))));
  const doors = host.doors.map((door) => el("li", { title: door.reason },
    el("span.effect", {}, door.effect), el("span.door", {}, door.door),
    proof(door),
    door.loss && door.door !== "none" ? el("p.muted", {}, `Not seen: ${door.loss}`) : null));
  const button = el("button.quiet", { type: "button" }, "Only this host");
  button.addEventListener("click", () => only({ host: name }));
  const labels = el("p.labels", {}, ...host.labels.map((text) => el("span.label", {}, text)));
  const watched = NOT_WATCHING[host.mode] ? [] : [el("h3", {}, "How effects are watched"), el("ul.door-list", {}, ...doors)];
  const mode = NOT_WATCHING[host.mode] ? el("p.wrong", {}, whyNot(host)) : "";
  place.replaceChildren(mode, host.labels.length ? labels : "", facts, ...watched, button);
}

/** Whether a door reports. A probe waits for a server that has such a library, and then for a call: neither is a failure. */
function proof(door) {
  if (door.door === "not mapped") return el("span.proof", {}, "not in use");
  if (door.door === "none") return el("span.proof.no", {}, "not seen");
  if (door.proven) return el("span.proof.yes", {}, "proven");
  return door.effect.startsWith("probe:") ? el("span.proof", {}, "not called yet") : el("span.proof.no", {}, "not proven");
}

export function showModels(models, only, openStory) {
  const list = byId("models");
  const create = (model) => fillModel(modelItem(only, model, openStory), model);
  reconcile(list, models.slice(0, 12), (model) => `${model.model_id}\n${model.digest}`, create, fillModel);
  list.parentElement.hidden = !models.length;
}

function modelItem(only, model, openStory) {
  const name = el("button.name", { type: "button" });
  name.addEventListener("click", () => only({ text: name.textContent }));
  return el("li.model-row", {}, el("div.first", {}, name, el("span.phase")), el("div.second"), places(model, openStory));
}

/** Where a model is: asked for when it is opened, and each time anew. */
function places(model, openStory) {
  const list = el("ul.places");
  const node = el("details", {}, el("summary", {}, "Where and when"), list);
  node.addEventListener("toggle", async () => {
    if (!node.open) return;
    let rows;
    try {
      rows = (await get("loads", { model: model.digest || model.model_id, limit: 30 })).rows;
    } catch (error) {
      list.replaceChildren(el("li.muted", {}, error.message));
      return;
    }
    list.replaceChildren(...rows.filter((row) => row.model_id === model.model_id && row.digest === model.digest).map((row) => place(row, openStory)));
  });
  return node;
}

function place(row, openStory) {
  const button = el("button.link", { type: "button", title: `Timeline of ${row.workload_id}` }, row.host_name);
  button.addEventListener("click", () => openStory({ of: row.workload_id, on: row.host_name }));
  return el("li", {}, el("div.first", {}, button, phaseNow(row)),
    el("div.muted", {}, [row.runtime, row.runtime_version].filter(Boolean).join(" ") || "runtime not known", `, ${plural(row.loads, "load")}, `,
      el("time.ago", { datetime: row.since, title: `since ${utc(row.since)}` }, ago(row.since))),
    el("div.place", {}, row.workload_id));
}

/** The phase that a model is in now, and how many loads of it there are. */
function phaseNow(row) {
  const [loaded, unknown] = [Number(row.loaded_now), Number(row.loaded_unknown)];
  const node = el("span.phase", { title: unknown ? `${plural(unknown, "load")} on silent hosts: nothing is known of them` : null });
  node.dataset.phase = loaded ? row.phase : "";
  node.textContent = !row.phase ? "not loaded" : !loaded ? "unknown" : loaded > 1 ? `${row.phase} \u00d7${loaded}` : row.phase;
  return node;
}

function fillModel(node, model) {
  const [first, second] = node.children;
  const [name, phase] = first.children;
  name.textContent = model.model_id;
  name.title = `${model.path}\nShow its detections`;
  phase.replaceWith(phaseNow(model));
  const told = [model.format, model.architecture, model.quantization, model.base ? `on ${model.base}` : ""].filter(Boolean);
  second.replaceChildren(
    ...told.map((text) => el("span.format", {}, text)),
    el("span.digest", { title: model.digest ? `sha256 ${model.digest}` : "not hashed yet" }, model.digest ? model.digest.slice(0, 12) : "no digest yet"),
    el("span.muted", { title: model.host_names.join(", ") }, plural(model.hosts, "host")),
    ...(model.runtimes.length ? [el("span.muted", { title: "loaded by" }, model.runtimes.join(", "))] : []),
    el("time.ago.muted", { datetime: model.last_loaded, title: `last loaded ${utc(model.last_loaded)}` }, ago(model.last_loaded)));
  return node;
}
