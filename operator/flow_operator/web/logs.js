/** What the steps of a flow print, as they print it. */

import { flowPath, follow, read, stream } from "./api.js";
import { make, perFrame, setText } from "./dom.js";
import { moment } from "./format.js";

/** Lines that are kept on the page; older ones are for `flowctl logs`. */
const MOST = 5000;

/** Lines that were printed before, of each log. */
const TAIL = 500;

/** Characters of a line that are shown. */
const LONG = 4000;

/** Logs that the operator follows at once. */
const LOGS = 64;

/** Milliseconds in which what was printed before comes, log by log; it is shown by time. */
const FIRST = 200;

/** Pixels from the end at which somebody still counts as reading the end. */
const NEAR = 40;

/** Follows the logs of a flow until `signal`. */
export class Logs {
  #id;
  #signal;
  #following = new AbortController();
  #generation = null;
  #logs = 1;
  #new = [];
  #waits = false;
  #replica = make("select", { "aria-label": "replica", onchange: () => this.#begin() });
  #step = make("select", { "aria-label": "step", onchange: () => this.#begin() });
  #note = make("p", { class: "note" });
  #lines = make("pre", { class: "log", tabindex: "0", "aria-label": "log" });
  #show = perFrame(() => this.#append());
  element = make("section", { class: "logs" }, this.#replica, " ", this.#step, this.#note, this.#lines);

  constructor(id, signal) {
    this.#id = id;
    this.#signal = signal;
  }

  /** Offer what there is to choose from; what was chosen stays, also while nothing runs. */
  refresh(flow) {
    if (flow.generation !== this.#generation) {
      const first = this.#generation === null;
      this.#generation = flow.generation;
      this.#offer(first).catch((error) => setText(this.#note, error.message));
    }
  }

  async #offer(first) {
    const { spec } = await read(flowPath(this.#id), { signal: this.#signal });
    const replicas = [...Array(spec.replicas ?? 1).keys()].map(String);
    const steps = spec.steps.map((step) => step.name);
    offer(this.#replica, "all replicas", replicas);
    offer(this.#step, "all steps", steps);
    this.#replica.hidden = replicas.length === 1;
    this.#logs = replicas.length * steps.length;
    if (first) {
      this.#replica.value = this.#logs > LOGS ? replicas[0] : "";
      this.#begin();
    }
  }

  #begin() {
    this.#following.abort();
    this.#following = new AbortController();
    this.#new = [];
    this.#lines.replaceChildren();
    setText(this.#note, "");
    this.#follow(AbortSignal.any([this.#signal, this.#following.signal]));
  }

  #follow(signal) {
    let last = null;
    follow({
      signal,
      open: () => stream(this.#path(last), this.#asked(last, signal)),
      take: (line) => {
        last = line.id;
        this.#new.push(line);
        this.#show();
      },
      failed: ({ status, message }) => {
        const givesUp = status === 400;
        last = status === 410 ? null : last;
        setText(this.#note, givesUp ? message : `${message}; trying again`);
        return givesUp;
      },
    });
  }

  #asked(last, signal) {
    const opened = () => {
      setText(this.#note, "");
      if (last === null) {
        this.#lines.replaceChildren();
        this.#gather();
      }
    };
    return { signal, opened, headers: last === null ? {} : { "Last-Event-ID": last } };
  }

  #path(last) {
    const asked = new URLSearchParams({ follow: "1" });
    for (const [name, { value }] of Object.entries({ step: this.#step, replica: this.#replica })) {
      if (value !== "") {
        asked.set(name, value);
      }
    }
    if (last === null) {
      asked.set("tail", String(Math.min(TAIL, Math.ceil(MOST / this.#logs))));
    }
    return flowPath(this.#id, `/logs?${asked}`);
  }

  #gather() {
    this.#waits = true;
    setTimeout(() => {
      this.#waits = false;
      this.#new.sort((one, other) => (one.time ?? "").localeCompare(other.time ?? ""));
      this.#show();
    }, FIRST);
  }

  #append() {
    if (this.#waits) {
      return;
    }
    const box = this.#lines;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
    box.append(...this.#new.splice(0).slice(-MOST).map(lineOf));
    while (box.childElementCount > MOST) {
      box.firstElementChild.remove();
    }
    if (atEnd) {
      box.scrollTop = box.scrollHeight;
    }
  }
}

/** Offer values, and keep the one that is chosen if it is still among them. */
function offer(select, all, values) {
  const chosen = select.value;
  const options = values.map((value) => make("option", { value }, value));
  select.replaceChildren(make("option", { value: "" }, all), ...options);
  select.value = values.includes(chosen) ? chosen : "";
}

function lineOf({ time, step, replica, line }) {
  const at = time === null ? "" : moment(time);
  const who = replica > 0 ? `${step}/${replica}` : step;
  const more = line.length - LONG;
  const text = more > 0 ? `${line.slice(0, LONG)} … and ${more.toLocaleString("en")} characters` : line;
  return make("div", {}, make("span", { class: "at" }, at), make("span", { class: "who" }, who), make("span", { class: "line" }, text));
}
