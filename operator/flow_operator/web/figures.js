/** CPU, memory and what is unread: asked for now and then, as they change all the time. */

import { poll, read } from "./api.js";

/** Seconds between two looks, at least: the operator's own are that old. */
const PERIOD = 2;

/** What is known of a flow: `cpu` is a share of one CPU, null until it was looked at twice. */
const NOTHING = { at: 0, cpu: null, memory: 0, unread: 0, steps: new Map() };

/** Seconds after which what is known is too old to be shown. */
const OLD = 60;

/** The key of a process among the figures of a flow. */
export function processOf(step) {
  return `${step.run} ${step.name} ${step.pid}`;
}

/** Figures of all flows, or of one; "change" is dispatched when there are new ones. */
export class Figures extends EventTarget {
  #flows = new Map();
  #one = null;

  /** What is known of the processes of a flow, by its status. */
  of(flow) {
    const known = this.#flows.get(flow.flow_id);
    const runs = flow.steps.some((step) => step.pid !== null);
    return known === undefined || !runs || seconds() - known.at > OLD ? NOTHING : known;
  }

  /** Look at one flow, or at all (null). */
  watch(id) {
    this.#one = id;
  }

  /** Look for ever. */
  run() {
    return poll(() => this.#look(), PERIOD);
  }

  async #look() {
    const id = this.#one;
    if (id === null) {
      const all = Object.values(await read("flows/status"));
      this.#flows = new Map(all.map((status) => [status.flow_id, this.#taken(status)]));
    } else {
      const status = await read(`flows/status/${encodeURIComponent(id)}`);
      this.#flows.set(id, this.#taken(status));
    }
    this.dispatchEvent(new Event("change"));
  }

  #taken(status) {
    const at = seconds();
    const before = this.of(status);
    const steps = new Map();
    let [cpu, memory, unread] = [null, 0, 0];
    for (const step of status.steps) {
      const key = processOf(step);
      const rate = rateOf(before.steps.get(key), step.cpuSeconds, at - before.at);
      steps.set(key, { cpu: rate, memory: step.memoryBytes, unread: step.inFlightBytes, used: step.cpuSeconds });
      cpu = rate === null ? cpu : (cpu ?? 0) + rate;
      memory += step.memoryBytes;
      unread += step.inFlightBytes;
    }
    return { at, cpu, memory, unread, steps };
  }
}

function seconds() {
  return performance.now() / 1000;
}

/** Share of one CPU; null where that process was not looked at before. */
function rateOf(before, used, elapsed) {
  return before === undefined || elapsed <= 0 ? null : Math.max(0, used - before.used) / elapsed;
}
