/** What is observed of all flows: listed once, then followed. */

import { Backoff, Problem, ask, stream } from "./api.js";

/** Twice what the operator lets pass without a word. */
const QUIET = 35;

/**
 * The statuses of all flows. "change" is dispatched when one has changed, and "connection" when
 * `connection` has: "connecting", "live", "away" (nobody answers) or "refused" (a token is needed).
 */
export class Flows extends EventTarget {
  /** @type {Map<string, Object>} by flow_id */
  all = new Map();
  connection = "connecting";
  /** Why it is not live. */
  reason = "";
  /** When what is known was last known to be so (milliseconds since the epoch). */
  knownAt = 0;
  #again = () => {};

  /** Follow for ever. */
  async run() {
    const backoff = new Backoff();
    let version = null;
    for (;;) {
      try {
        version ??= await this.#list();
        for await (const message of stream(
          `flows/status?watch=1&resourceVersion=${encodeURIComponent(version)}`,
          { signal: new AbortController().signal, quiet: QUIET },
        )) {
          if (message.type === "ERROR") {
            throw new Problem(message.object.status, message.object);
          }
          this.#take(message);
          version = message.resourceVersion;
          backoff.reset();
        }
        await backoff.wait(); // An operator that is about to end may end each stream at once.
      } catch (error) {
        version = error.status === 410 ? null : version;
        await this.#failed(error, backoff);
      }
    }
  }

  /** Ask again now: there is another token. */
  retry() {
    this.#again();
  }

  async #list() {
    const response = await ask("flows/status");
    const version = response.headers.get("Resource-Version");
    this.all = new Map(Object.entries(await response.json()));
    this.#live();
    this.dispatchEvent(new Event("change"));
    return version;
  }

  #take({ type, object }) {
    this.#live();
    if (type === "BOOKMARK") {
      return;
    }
    if (type === "DELETED") {
      this.all.delete(object.flow_id);
    } else {
      this.all.set(object.flow_id, object);
    }
    this.dispatchEvent(new Event("change"));
  }

  #live() {
    this.knownAt = Date.now();
    this.#tell("live", "");
  }

  async #failed(error, backoff) {
    if (error.status === 410) {
      return; // It is listed anew.
    }
    if (error.status === 401) {
      this.#tell("refused", error.message);
      await new Promise((resolve) => (this.#again = resolve));
      return;
    }
    const said = error instanceof Problem ? error.message : "it does not answer";
    this.#tell("away", said);
    await backoff.wait();
  }

  #tell(connection, reason) {
    if (this.connection !== connection || this.reason !== reason) {
      this.connection = connection;
      this.reason = reason;
      this.dispatchEvent(new Event("connection"));
    }
  }
}
