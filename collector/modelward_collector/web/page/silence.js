// Exceptions: making one from a detection, after showing what it covers; the list of those in force, and ending one.

import { get, send } from "./api.js";
import { el, reconcile } from "./dom.js";
import { number, plural, utc } from "./text.js";

const SPANS = [["1d", "1 day"], ["7d", "7 days"], ["30d", "30 days"], ["90d", "90 days"], ["366d", "1 year"]];
const AUTHOR = "console";

let changed = () => {};

/** `after` is called when something was silenced or shows again. */
export function onChange(after) {
  changed = after;
}

/** Opens the dialog for a detection. */
export async function silence(id) {
  const covers = el("div.covers", {}, el("p.muted", {}, "Looking what this would cover"));
  const everywhere = el("input", { type: "checkbox", name: "everywhere" });
  const reason = el("input", { type: "text", name: "reason", required: true, maxlength: "500", autocomplete: "off" });
  const span = el("select", { name: "span" }, ...SPANS.map(([value, text]) => el("option", { value, selected: value === "7d" }, text)));
  const wrong = el("p.wrong", { role: "alert", hidden: true });
  const save = el("button.primary", { type: "submit", disabled: true }, "Silence");
  const cancel = el("button.quiet", { type: "button" }, "Cancel");
  const form = el("form", { method: "dialog" },
    el("h2", { id: "silence-title" }, "Silence what is expected"),
    covers,
    el("label.check", {}, everywhere, el("span", {}, "On every host, not only this one")),
    el("label", {}, el("span", {}, "Why is it expected?"), reason),
    el("label", {}, el("span", {}, "For how long?"), span),
    wrong,
    el("div.actions", {}, cancel, save));
  const dialog = el("dialog", { "aria-labelledby": "silence-title" }, form);
  const say = (text) => {
    wrong.hidden = !text;
    wrong.textContent = text;
  };
  let shown = null;
  const look = async () => {
    save.disabled = true;
    shown = null;
    try {
      const found = await get("exceptions/preview", { detection: id, all_hosts: everywhere.checked ? "1" : "" });
      covers.replaceChildren(...preview(found));
      shown = found;
      save.disabled = !found.covers.executable_path;
    } catch (error) {
      covers.replaceChildren(el("p.muted", {}, error.message));
    }
  };
  everywhere.addEventListener("change", look);
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!shown) return;
    save.disabled = true;
    say("");
    try {
      await send("POST", "exceptions", {
        detection: shown.detection_id, covers: shown.covers, reason: reason.value.trim(), for: span.value, author: AUTHOR,
      });
      dialog.close();
      changed();
    } catch (error) {
      say(error.message);
      await look();
    }
  });
  document.body.append(dialog);
  dialog.showModal();
  await look();
  reason.focus();
}

function preview(found) {
  const { covers } = found;
  const facts = [
    ["Rule", `${found.rule_title} (${covers.rule_name})`],
    ["Program", covers.executable_path || "none"],
    ["Model", covers.model_digest ? `${found.model_id}, sha256 ${covers.model_digest}` : "none known"],
    ["Host", covers.host_name || "every host"],
  ];
  return [
    covers.executable_path && el("p", {}, "Hidden, and not sent on, is what equals all of:"),
    el("dl.facts", {}, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    covers.executable_path && el("p.counted", {}, `It would have covered ${plural(found.count, "detection")} of the last ${found.days} days, on ${plural(found.hosts, "host")}. They stay stored. An attack that looks the same is silenced too.`),
    ...found.notes.map((note) => el("p.note-text", {}, note)),
  ].filter(Boolean);
}

/** Shows the exceptions in force in `panel`, which is hidden when there is none. */
export async function showExceptions(panel, signal) {
  const { rows } = await get("exceptions", { active: "true", limit: 50 }, signal);
  panel.hidden = !rows.length;
  reconcile(panel.querySelector("ul"), rows, (row) => row.id, item, fill);
}

function item(row) {
  const button = el("button.link.revoke", { type: "button" }, "Revoke");
  let asked = null;
  button.addEventListener("click", async () => {
    if (!asked) {
      // A second click within five seconds means it.
      button.textContent = "Show these again?";
      asked = setTimeout(() => {
        asked = null;
        button.textContent = "Revoke";
      }, 5000);
      return;
    }
    clearTimeout(asked);
    button.disabled = true;
    try {
      await send("DELETE", `exceptions/${encodeURIComponent(row.id)}?author=${AUTHOR}`);
      changed();
    } catch (error) {
      asked = null;
      button.disabled = false;
      button.textContent = error.message;
    }
  });
  const node = el("li.exception", {}, el("strong", {}), el("p.text", {}), el("p.place", {}), el("div.ends", {}, el("span", {}), button));
  fill(node, row);
  return node;
}

function fill(node, row) {
  const [rule, reason, what, ends] = node.children;
  rule.textContent = row.rule_name;
  reason.textContent = row.reason;
  const host = row.host_name ? `on ${row.host_name}` : "on every host";
  what.textContent = `${row.executable_path} ${host}`;
  what.title = row.model_digest ? `model sha256 ${row.model_digest}` : "no known model";
  ends.firstElementChild.textContent = `${number(row.hits)} hidden, until ${row.expires.slice(0, 10)}`;
  ends.firstElementChild.title = `made ${utc(row.created)} by ${row.author}, ends ${utc(row.expires)}`;
}
