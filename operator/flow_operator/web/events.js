/** What has happened to a flow, the newest first. */

import { QUIET, flowPath, follow, stream } from "./api.js";
import { make, setText } from "./dom.js";
import { moment } from "./format.js";

/** Events that the operator keeps of a flow. */
const MOST = 100;

/** Follows the events of a flow until `signal`. */
export class Events {
  #rows = new Map();
  #body = make("tbody");
  #note = make("p", { class: "note" });
  element = make("section", {}, this.#note, make("table", { class: "events" }, this.#body));

  constructor(id, signal) {
    const asked = { signal, opened: () => this.#clear(), quiet: QUIET };
    follow({
      signal,
      open: () => stream(flowPath(id, "/events?watch=1"), asked),
      take: (message) => this.#take(message),
      failed: (error) => setText(this.#note, `${error.message}; trying again`),
    });
  }

  #clear() {
    setText(this.#note, "");
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
