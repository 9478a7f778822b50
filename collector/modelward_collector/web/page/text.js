// How times, numbers and names are written.

export const SEVERITIES = ["critical", "high", "medium", "low", "informational"];
const LABELS = { informational: "info" };

export const label = (severity) => LABELS[severity] ?? severity;

let offset = 0; // collector's clock minus this one's, ms

export function setNow(rfc3339) {
  const then = Date.parse(rfc3339);
  if (!Number.isNaN(then)) offset = then - Date.now();
}

export const now = () => Date.now() + offset;

/** Milliseconds of an RFC 3339 time with nanoseconds. */
export const millis = (time) => Date.parse(time.replace(/(\.\d{3})\d+/, "$1"));

export function ago(time) {
  const seconds = Math.max(0, (now() - millis(time)) / 1000);
  if (seconds < 5) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

/** 2026-11-25 07:00:00.123 UTC */
export const utc = (time) => `${time.slice(0, 10)} ${time.slice(11, 23).replace("Z", "")} UTC`;

export const clock = (time) => time.slice(11, 23).replace("Z", "");

export function between(first, last) {
  const ms = millis(last) - millis(first);
  if (ms < 1) return "";
  if (ms < 1000) return `within ${Math.round(ms)} ms`;
  if (ms < 60000) return `within ${(ms / 1000).toFixed(ms < 10000 ? 1 : 0)} s`;
  if (ms < 3600000) return `within ${Math.round(ms / 60000)} min`;
  return `within ${(ms / 3600000).toFixed(1)} h`;
}

export const number = (value) => Number(value).toLocaleString("en-GB");

export function short(value) {
  const n = Number(value);
  if (n < 10000) return number(n);
  if (n < 1e6) return `${(n / 1e3).toFixed(n < 1e5 ? 1 : 0)} k`;
  if (n < 1e9) return `${(n / 1e6).toFixed(1)} M`;
  return `${(n / 1e9).toFixed(1)} G`;
}

export const plural = (n, one, many = `${one}s`) => `${number(n)} ${Number(n) === 1 ? one : many}`;

/** Where MITRE describes a technique; null when the id is not one. */
export function mitre(id) {
  let found = /^T(\d{4})(?:\.(\d{3}))?$/.exec(id);
  if (found) return `https://attack.mitre.org/techniques/T${found[1]}/${found[2] ? `${found[2]}/` : ""}`;
  found = /^AML\.T\d{4}(?:\.\d{3})?$/.exec(id);
  return found ? `https://atlas.mitre.org/techniques/${id}` : null;
}

/** What an event is about, in one line. */
export function what(event) {
  switch (event.event_name) {
    case "exec": return event.process_command_line || event.process_executable_path;
    case "file_open": return `${event.file_path}${event.file_access === "read" ? "" : ` (${event.file_access.replace("_", " and ")})`}`;
    case "connect":
    case "listen": return event.destination_address.includes(":")
      ? `[${event.destination_address}]:${event.destination_port}` : `${event.destination_address}:${event.destination_port}`;
    case "exit": return event.process_exit_signal ? `signal ${event.process_exit_signal}` : `status ${event.process_exit_code}`;
    case "lifecycle": return `${event.lifecycle_from} to ${event.lifecycle_phase} (${event.lifecycle_trigger})`;
    case "model_identity": return event.model_id;
    case "loss": return `${event.loss_kind} lost at ${event.loss_hop}`;
    default: return event.process_executable_path;
  }
}
