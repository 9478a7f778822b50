// The filters above the list. They live in the address, so that a view can be kept and sent to someone.

import { el } from "./dom.js";
import { SEVERITIES, label, number } from "./text.js";

const DEFAULT_SINCE = "24h";

export class Filters {
  constructor(changed) {
    this.changed = changed;
    this.form = document.getElementById("filters");
    this.q = document.getElementById("q");
    this.host = document.getElementById("host");
    this.since = document.getElementById("since");
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
    this.since.addEventListener("change", () => this.#write());
    this.form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** Parameters of the API. */
  get parameters() {
    return { q: this.q.value.trim(), severity: this.#chosen().join(","), host: this.host.value, since: this.since.value };
  }

  /** Whether anything beside the time span narrows the list. */
  get narrowed() {
    const { q, severity, host } = this.parameters;
    return Boolean(q || severity || host);
  }

  get span() {
    return this.since.selectedOptions[0]?.textContent.toLowerCase() ?? "";
  }

  clear() {
    this.q.value = "";
    this.host.value = "";
    for (const button of this.levels.children) button.setAttribute("aria-pressed", "false");
    this.#write();
  }

  /** Narrow to a host, or to a text. */
  only({ host, text }) {
    if (host !== undefined) {
      this.#hasHost(host);
      this.host.value = host;
    }
    if (text !== undefined) this.q.value = text;
    this.#write();
  }

  setHosts(names) {
    const items = [...new Set([...names, this.host.value].filter(Boolean))].sort();
    const options = [...this.host.options].slice(1).map((option) => option.value);
    if (items.join("\n") === options.join("\n")) return;
    const value = this.host.value;
    this.host.replaceChildren(this.host.options[0], ...items.map((name) => el("option", { value: name }, name)));
    this.host.value = value;
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

  #hasHost(name) {
    if (name && ![...this.host.options].some((option) => option.value === name)) this.host.append(el("option", { value: name }, name));
  }

  #read() {
    const given = new URLSearchParams(location.search);
    this.q.value = given.get("q") ?? "";
    const host = given.get("host") ?? "";
    this.#hasHost(host);
    this.host.value = host;
    this.since.value = given.get("since") ?? DEFAULT_SINCE;
    if (!this.since.value) this.since.value = DEFAULT_SINCE;
    const levels = new Set((given.get("severity") ?? "").split(","));
    for (const button of this.levels.children) button.setAttribute("aria-pressed", String(levels.has(button.dataset.severity)));
  }

  #write() {
    const wanted = Object.entries(this.parameters).filter(([name, value]) => value && !(name === "since" && value === DEFAULT_SINCE));
    const query = new URLSearchParams(wanted).toString();
    history.replaceState(null, "", query ? `?${query}` : location.pathname);
    this.changed();
  }
}
