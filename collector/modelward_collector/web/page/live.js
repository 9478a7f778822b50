// The stream of what happens now, and what the indicator says about it.

const STALE_MS = 15000;

/** Calls handlers[kind](data) for each message, and state(name, text) when the connection changes. */
export function follow(handlers, state) {
  let heard = 0;
  let away = false;
  let source = null;
  const kinds = ["hello", "alive", "overview", "detection", "missed", "away"];
  function open() {
    source = new EventSource("/api/v1/tail");
    for (const kind of kinds) {
      source.addEventListener(kind, (message) => {
        heard = Date.now();
        const data = JSON.parse(message.data);
        away = kind === "away" || (away && kind !== "overview" && kind !== "detection");
        state(away ? "away" : "live", away ? "Store away" : "Live");
        handlers[kind]?.(data);
      });
    }
    source.addEventListener("error", () => state("lost", "Reconnecting"));
  }
  open();
  // A browser may keep a page that was left, stream and all, and has six connections to a host: the sixth page would wait.
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (shown) => shown.persisted && open());
  setInterval(() => {
    if (heard && Date.now() - heard > STALE_MS) state("lost", `Stale for ${Math.round((Date.now() - heard) / 1000)} s`);
  }, 1000);
}
