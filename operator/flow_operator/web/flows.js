/** What is observed of all flows: listed once, then followed. */

import { Away, Backoff, Problem, QUIET, ask, endStreams, stream } from "./api.js";

/**
 * The statuses of all flows. "change" is dispatched when one has changed, and "connection" when
 * `connection` has: "connecting", "live", "away" (nobody answers), "late" (the operator answers, but
 * does not tell changes) or "refused" (a token is needed).
 */
export class Flows extends EventTarget {
  /** @type {Map<string, Object>} by flow_id */
  all = new Map();
  /** Whether it was listed: until then nobody knows which flows there are. */
  known = false;
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
        for await (const message of this.#watch(version)) {
          if (message.type === "ERROR") {
            throw new Problem(message.object.status, message.object);
          }
          this.#take(message);
          version = message.resourceVersion;
          backoff.reset();
        }
        this.#tell("connecting", "");
        await backoff.wait(); // An operator that is about to end may end each stream at once.
      } catch (error) {
        // 410: it is listed anew; 401: it may be another one's.
        version = [401, 410].includes(error.status) ? null : version;
        await this.#failed(error, backoff);
      }
    }
  }

  /** Ask again now: there is another token. */
  retry() {
    this.#again();
  }

  #watch(version) {
    const path = `flows/status?watch=1&resourceVersion=${encodeURIComponent(version)}`;
    return stream(path, { quiet: QUIET, opened: () => this.#live() });
  }

  async #list() {
    const response = await ask("flows/status");
    const version = response.headers.get("Resource-Version");
    this.all = new Map(Object.entries(await response.json()));
    this.known = true;
    this.knownAt = Date.now();
    this.#changed();
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
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  #live() {
    this.knownAt = Date.now();
    this.#tell("live", "");
  }

  async #failed(error, backoff) {
    if (error.status === 401) {
      this.all = new Map();
      this.known = false;
      this.#changed();
      this.#tell("refused", error.message);
      await new Promise((resolve) => (this.#again = resolve));
      return;
    }
    if (error.status !== 410) {
      if (error instanceof Away && this.connection !== "away") {
        endStreams();
      }
      this.#tell(error instanceof Away ? "away" : "late", error.message);
    }
    await backoff.wait();
  }

  #tell(connection, reason) {
    if (this.connection !== connection || this.reason !== reason || connection === "refused") {
      this.connection = connection;
      this.reason = reason;
      this.dispatchEvent(new Event("connection"));
    }
  }
}
