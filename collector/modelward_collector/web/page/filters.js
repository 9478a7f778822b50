// The filters above the list. They live in the address, so that a view can be kept and sent to someone.

import { el } from "./dom.js";
import { SEVERITIES, label, number } from "./text.js";

const DEFAULT_SINCE = "24h";

export class Filters {
  #pinned = null;

  constructor(changed) {
    this.changed = changed;
    this.form = document.getElementById("filters");
    this.q = document.getElementById("q");
    this.host = document.getElementById("host");
    this.since = document.getElementById("since");
    this.label = document.getElementById("label");
    this.silenced = document.getElementById("silenced");
    this.levels = document.getElementById("levels");
    this.levels.append(...SEVERITIES.map((severity) => this.#level(severity)));
    this.#read();
    addEventListener("popstate", () => {
      this.#read();
      this.changed();
    });
    let timer;
    this.q.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#write(), 200);
    });
    this.host.addEventListener("change", () => this.#write());
    this.label.addEventListener("change", () => this.#write());
    this.since.addEventListener("change", () => this.#write());
    this.silenced.addEventListener("click", () => {
      this.silenced.setAttribute("aria-pressed", String(!this.#showsSilenced()));
      this.#write();
    });
    this.form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** Parameters of the API. */
  get parameters() {
    return {
      q: this.q.value.trim(), severity: this.#chosen().join(","), host: this.host.value, label: this.label.value,
      since: this.since.value, silenced: this.#showsSilenced() ? "1" : "",
    };
  }

  /** The one group that the address names, by its key or by a detection in it: `{key}`, `{id}` or null. */
  get pinned() {
    return this.#pinned;
  }

  /** Whether anything beside the time span narrows the list. */
  get narrowed() {
    const { q, severity, host, label } = this.parameters;
    return Boolean(q || severity || host || label || this.#pinned);
  }

  get span() {
    return this.since.selectedOptions[0]?.textContent.toLowerCase() ?? "";
  }

  clear() {
    this.q.value = "";
    this.host.value = "";
    this.label.value = "";
    for (const button of this.levels.children) button.setAttribute("aria-pressed", "false");
    this.#write();
  }

  /** Narrow to a host, or to a text. */
  only({ host, text }) {
    if (host !== undefined) {
      has(this.host, host);
      this.host.value = host;
    }
    if (text !== undefined) this.q.value = text;
    this.#write();
  }

  setHosts(names) {
    offer(this.host, names);
  }

  setLabels(names) {
    offer(this.label, names);
    this.label.hidden = this.label.options.length < 2;
  }

  /** How many groups exceptions hide, or would. */
  setSilenced(count) {
    const shows = this.#showsSilenced();
    this.silenced.hidden = !count && !shows;
    this.silenced.textContent = `${shows ? "Hide" : "Show"} silenced${count ? ` (${number(count)})` : ""}`;
  }

  setCounts(counts) {
    for (const button of this.levels.children) {
      const count = counts[button.dataset.severity] ?? 0;
      button.querySelector(".n").textContent = number(count);
      button.classList.toggle("none", count === 0);
    }
  }

  #level(severity) {
    const button = el("button.level", { type: "button", "aria-pressed": "false" },
      el("span.mark", { "aria-hidden": "true" }), el("span", {}, label(severity)), el("span.n", {}, "0"));
    button.dataset.severity = severity;
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      this.#write();
    });
    return button;
  }

  #chosen() {
    return [...this.levels.children].filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.severity);
  }

  #showsSilenced() {
    return this.silenced.getAttribute("aria-pressed") === "true";
  }

  #read() {
    const given = new URLSearchParams(location.search);
    this.q.value = given.get("q") ?? "";
    for (const [select, name] of [[this.host, "host"], [this.label, "label"]]) {
      const value = given.get(name) ?? "";
      has(select, value);
      select.value = value;
    }
    this.label.hidden = this.label.options.length < 2;
    this.silenced.setAttribute("aria-pressed", String(given.get("silenced") === "1"));
    const [key, id] = [given.get("incident"), given.get("detection")];
    this.#pinned = key ? { key } : id ? { id } : null;
    this.since.value = given.get("since") ?? DEFAULT_SINCE;
    if (!this.since.value) this.since.value = DEFAULT_SINCE;
    const levels = new Set((given.get("severity") ?? "").split(","));
    for (const button of this.levels.children) button.setAttribute("aria-pressed", String(levels.has(button.dataset.severity)));
  }

  #write() {
    this.#pinned = null;
    const wanted = Object.entries(this.parameters).filter(([name, value]) => value && !(name === "since" && value === DEFAULT_SINCE));
    const query = new URLSearchParams(wanted).toString();
    history.replaceState(null, "", query ? `?${query}` : location.pathname);
    this.changed();
  }
}

function has(select, value) {
  if (value && ![...select.options].some((option) => option.value === value)) select.append(el("option", { value }, value));
}

/** Makes the options of a select these, and keeps what is chosen. The first option, for all, stays. */
function offer(select, names) {
  const items = [...new Set([...names, select.value].filter(Boolean))].sort();
  const options = [...select.options].slice(1).map((option) => option.value);
  if (items.join("\n") === options.join("\n")) return;
  const value = select.value;
  select.replaceChildren(select.options[0], ...items.map((name) => el("option", { value: name }, name)));
  select.value = value;
}
