/** What the steps of a flow print, as they print it. */

import { Backoff, flowPath, stream } from "./api.js";
import { make, perFrame } from "./dom.js";
import { moment } from "./format.js";

/** Lines that are kept on the page; older ones are for `flowctl logs`. */
const MOST = 5000;

/** Lines that were printed before. */
const TAIL = 500;

/** Pixels from the end at which somebody still counts as reading the end. */
const NEAR = 40;

/** Follows the logs of a flow until `signal`. */
export class Logs {
  #id;
  #signal;
  #following;
  #new = [];
  #steps = make("select", { "aria-label": "step", onchange: () => this.#begin() }, make("option", { value: "" }, "all steps"));
  #note = make("p", { class: "note" });
  #lines = make("pre", { class: "log", tabindex: "0", "aria-label": "log" });
  #show = perFrame(() => this.#append());
  element = make("section", { class: "logs" }, this.#steps, this.#note, this.#lines);

  constructor(id, steps, signal) {
    this.#id = id;
    this.#signal = signal;
    const names = [...new Set(steps.map((step) => step.name))];
    this.#steps.append(...names.map((name) => make("option", { value: name }, name)));
    this.#begin();
  }

  #begin() {
    this.#following?.abort();
    this.#following = new AbortController();
    this.#new = [];
    this.#lines.replaceChildren();
    this.#follow(AbortSignal.any([this.#signal, this.#following.signal]));
  }

  async #follow(signal) {
    const backoff = new Backoff();
    let last = null;
    while (!signal.aborted) {
      try {
        for await (const line of stream(this.#path(last), { signal, headers: last === null ? {} : { "Last-Event-ID": last } })) {
          this.#note.textContent = "";
          last = line.id;
          backoff.reset();
          this.#new.push(line);
          this.#show();
        }
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        last = error.status === 410 ? null : last;
        this.#note.textContent = `${error.message}; trying again`;
      }
      await backoff.wait(signal).catch(() => {});
    }
  }

  #path(last) {
    const asked = new URLSearchParams({ follow: "1" });
    if (this.#steps.value !== "") {
      asked.set("step", this.#steps.value);
    }
    if (last === null) {
      asked.set("tail", String(TAIL));
    }
    return flowPath(this.#id, `/logs?${asked}`);
  }

  #append() {
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

function lineOf({ time, step, replica, line }) {
  const at = time === null ? "" : moment(time);
  const who = replica > 0 ? `${step}/${replica}` : step;
  return make("div", {}, make("span", { class: "at" }, at), make("span", { class: "who" }, who), make("span", { class: "line" }, line));
}
