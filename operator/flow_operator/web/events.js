/** What has happened to a flow, the newest first. */

import { Backoff, flowPath, stream } from "./api.js";
import { make } from "./dom.js";
import { moment } from "./format.js";

const QUIET = 35;

/** Events that the operator keeps of a flow. */
const MOST = 100;

/** Follows the events of a flow until `signal`. */
export class Events {
  #rows = new Map();
  #body = make("tbody");
  #note = make("p", { class: "note" });
  element = make("section", {}, this.#note, make("table", { class: "events" }, this.#body));

  constructor(id, signal) {
    this.#follow(id, signal);
  }

  async #follow(id, signal) {
    const backoff = new Backoff();
    while (!signal.aborted) {
      try {
        const opened = () => this.#clear();
        for await (const message of stream(flowPath(id, "/events?watch=1"), { signal, opened, quiet: QUIET })) {
          this.#take(message);
          backoff.reset();
        }
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        this.#note.textContent = `${error.message}; trying again`;
      }
      await backoff.wait(signal).catch(() => {});
    }
  }

  #clear() {
    this.#note.textContent = "";
    this.#rows.clear();
    this.#body.replaceChildren();
  }

  #take({ type, object }) {
    if (type === "DELETED") {
      this.#clear();
    } else if (type === "ADDED" || type === "MODIFIED") {
      const key = [object.type, object.reason, object.message].join("\n");
      this.#rows.get(key)?.remove();
      this.#rows.delete(key);
      const row = rowOf(object);
      this.#rows.set(key, row);
      this.#body.prepend(row);
      if (this.#rows.size > MOST) {
        const [oldest] = this.#rows.keys();
        this.#rows.get(oldest).remove();
        this.#rows.delete(oldest);
      }
    }
  }
}

function rowOf(event) {
  const often = event.count > 1 ? ` (${event.count} times since ${moment(event.firstAt)})` : "";
  return make(
    "tr",
    { class: event.type.toLowerCase() },
    make("td", {}, moment(event.at)),
    make("td", {}, event.reason),
    make("td", {}, event.message + often),
  );
}
