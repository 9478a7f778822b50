// The page: fetches groups, follows the stream, and keeps both on the screen.

import { ApiError, get } from "./api.js";
import { showEmpty } from "./empty.js";
import { Filters } from "./filters.js";
import { openFirst, showGroups } from "./groups.js";
import { follow } from "./live.js";
import { onChange, showExceptions } from "./silence.js";
import { showCoverage, showHosts, showModels, showTotals } from "./side.js";
import { closeStory, openStory, readStory } from "./story.js";
import { ago, label, now, plural, setNow } from "./text.js";
import { showTimeline } from "./timeline.js";

const LIMIT = 200;
const REFRESH_MS = 20000; // a model's name may be bound after its detection

const byId = (id) => document.getElementById(id);
const filters = new Filters(() => refresh());
let rows = [];
let overview = null;
let loaded = false;
let request = null;
let wanted = false; // something changed since the last request began
let rest = null;

async function refresh({ fresh = false } = {}) {
  request?.abort();
  wanted = false;
  const mine = (request = new AbortController());
  try {
    const { parameters, pinned } = filters;
    const [found, timeline, counts] = await Promise.all([
      get("incidents", { ...(pinned ?? parameters), limit: LIMIT }, mine.signal),
      get("timeline", { ...parameters, bins: 60 }, mine.signal),
      get("severities", { ...parameters, severity: "" }, mine.signal),
      showExceptions(byId("exceptions"), mine.signal),
    ]);
    rows = found.rows;
    showGroups(byId("groups"), rows, { fresh: fresh && loaded });
    showTimeline(byId("timeline"), timeline);
    filters.setCounts(Object.fromEntries(counts.rows.map((row) => [row.severity, Number(row.n)])));
    filters.setSilenced(counts.rows.reduce((sum, row) => sum + Number(row.silenced), 0));
    if (pinned && !loaded) openFirst(byId("groups"), pinned.id);
    byId("pinned").hidden = !pinned;
    byId("more").hidden = found.complete;
    byId("more").textContent = `The latest ${LIMIT} groups. Narrow the filters to see older ones.`;
    loaded = true;
    notice("");
    draw();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof ApiError)) throw error;
    notice(error.message);
  } finally {
    if (request === mine) {
      request = null;
      if (wanted) soon();
    }
  }
}

/** Refresh shortly, however many detections come: a flood must not abort each request by the next. */
function soon() {
  wanted = true;
  if (request || rest) return;
  rest = setTimeout(() => {
    rest = null;
    if (wanted && !request) refresh({ fresh: true });
  }, 250);
}

function draw() {
  if (!loaded) return;
  showEmpty(byId("empty"), { rows, filters, overview });
  const worst = rows.filter((row) => row.severity === "critical").length;
  byId("summary").textContent = rows.length
    ? filters.pinned ? "the one that the address names" : `${plural(rows.length, "group")} in the ${filters.span}${filters.narrowed ? ", filtered" : ""}` : "";
  document.title = worst ? `(${worst}) Modelward` : "Modelward";
}

function notice(text) {
  const place = byId("notice");
  place.hidden = !text;
  if (place.textContent !== text) place.textContent = text;
}

function showOverview(data) {
  overview = data;
  setNow(data.now);
  showTotals(data);
  showCoverage(data);
  const only = (wanted) => {
    closeStory();
    filters.only(wanted);
  };
  showHosts(data.hosts, data.totals, only);
  showModels(data.models, only, openStory);
  filters.setHosts(data.hosts.map((host) => host.host_name));
  filters.setLabels(data.totals.labels);
  draw();
}

function announce(detection) {
  byId("announce").textContent = `${label(detection.severity)}: ${detection.sentence || detection.rule_title}`;
}

function setState(name, text) {
  const place = byId("live");
  if (place.dataset.state !== name) place.dataset.state = name;
  if (byId("live-text").textContent !== text) byId("live-text").textContent = text;
  document.body.classList.toggle("stale", name !== "live");
}

function tick() {
  byId("clock").textContent = `${new Date(now()).toISOString().slice(11, 19)} UTC`;
  for (const time of document.querySelectorAll("time.ago")) {
    const text = ago(time.getAttribute("datetime"));
    if (time.textContent !== text) time.textContent = text;
  }
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (filters.narrowed) filters.clear();
    event.target.blur?.();
  } else if (!typing && event.key === "/") {
    event.preventDefault();
    byId("q").focus();
  } else if (!typing && (event.key === "j" || event.key === "k")) {
    const buttons = [...document.querySelectorAll(".group > .summary")];
    const at = buttons.indexOf(document.activeElement);
    buttons[Math.max(0, Math.min(buttons.length - 1, at + (event.key === "j" ? 1 : -1)))]?.focus();
  }
}

follow({
  hello: (data) => { setNow(data.now); if (loaded) refresh({ fresh: true }); },
  alive: (data) => setNow(data.now),
  overview: showOverview,
  detection: (data) => { announce(data); soon(); },
  missed: () => refresh({ fresh: true }),
  away: (data) => notice(data.error),
}, setState);
onChange(() => refresh());
byId("unpin").addEventListener("click", () => filters.clear());
document.addEventListener("keydown", keys);
setInterval(tick, 1000);
setInterval(() => document.visibilityState === "visible" && refresh(), REFRESH_MS);
tick();
readStory();
addEventListener("popstate", readStory);
get("overview").then(showOverview, (error) => notice(error.message));
refresh();
