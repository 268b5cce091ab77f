/** What has happened to a flow, the newest first. */

import { Backoff, flowPath, stream } from "./api.js";
import { make } from "./dom.js";
import { moment } from "./format.js";

const QUIET = 35;

/** Follows the events of a flow until `signal`. */
export class Events {
  #rows = new Map();
  #body = make("tbody");
  element = make("section", {}, make("table", { class: "events" }, this.#body));

  constructor(id, signal) {
    this.#follow(id, signal);
  }

  async #follow(id, signal) {
    const backoff = new Backoff();
    while (!signal.aborted) {
      this.#clear();
      try {
        for await (const message of stream(flowPath(id, "/events?watch=1"), { signal, quiet: QUIET })) {
          this.#take(message);
          backoff.reset();
        }
      } catch (error) {
        if (signal.aborted) {
          return;
        }
      }
      await backoff.wait(signal).catch(() => {});
    }
  }

  #clear() {
    this.#rows.clear();
    this.#body.replaceChildren();
  }

  #take({ type, object }) {
    if (type === "DELETED") {
      this.#clear();
    } else if (type === "ADDED" || type === "MODIFIED") {
      const key = [object.type, object.reason, object.message].join("\n");
      this.#rows.get(key)?.remove();
      const row = rowOf(object);
      this.#rows.set(key, row);
      this.#body.prepend(row);
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
