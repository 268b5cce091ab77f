/** The picture of a flow: its steps, and the pipes between them. */

import { make, setAttribute, setText } from "./dom.js";
import { processOf } from "./figures.js";
import { bytes, ending, moment, percent } from "./format.js";

/** Unread bytes at which a pipe is drawn as full: the kernel's usual size, pipe(7). */
const FULL = 65536;

/** A row of boxes for each replica; boxes and pipes are kept as long as the same steps are there. */
export class Pipeline {
  element = make("div", { class: "pipelines" });
  #shape = "";
  #boxes = [];

  /** Draw what was observed of a flow. */
  draw(flow, figures) {
    const shape = flow.steps.map((step) => [step.replica, step.name, ...step.probes.map((probe) => probe.kind)]).join("\n");
    if (shape !== this.#shape) {
      this.#shape = shape;
      this.#build(flow.steps);
    }
    flow.steps.forEach((step, at) => this.#boxes[at].draw(step, figures.steps.get(processOf(step))));
  }

  #build(steps) {
    const replicas = [...Map.groupBy(steps, (step) => step.replica)];
    this.#boxes = [];
    this.element.replaceChildren(
      ...replicas.map(([replica, own]) => {
        const boxes = own.map((step, at) => this.#add(step, at > 0));
        const label = replicas.length > 1 ? make("li", { class: "replica" }, String(replica)) : null;
        return make("ol", { class: "pipeline", "aria-label": `replica ${replica}` }, label, ...boxes);
      }),
    );
  }

  #add(step, piped) {
    const box = new Box(step, piped);
    this.#boxes.push(box);
    return box.element;
  }
}

class Box {
  #state = make("span", { class: "state" });
  #lines = make("dl");
  #values = new Map();
  #unread = make("span", { class: "unread" });
  #fill = make("span", { class: "fill" });
  element;

  constructor(step, piped) {
    const pipe = make("div", { class: "pipe", title: "Bytes that wait in the pipe" }, make("div", { class: "gauge" }, this.#fill), this.#unread);
    const name = make("h3", {}, step.name, " ", this.#state);
    this.element = make("li", {}, piped ? pipe : null, make("div", { class: "step" }, name, this.#lines));
  }

  draw(step, figures) {
    setAttribute(this.element, "data-state", step.state);
    setText(this.#state, step.state === "running" && !step.ready ? "not ready" : step.state);
    this.#value("pid", step.pid === null ? "" : String(step.pid));
    this.#value("CPU", step.pid !== null && figures?.cpu != null ? percent(figures.cpu) : "");
    this.#value("memory", step.pid !== null && figures?.memory ? bytes(figures.memory) : "");
    this.#value("restarts", step.restarts > 0 ? String(step.restarts) : "");
    this.#value("last end", step.lastExit === null ? "" : `${ending(step.lastExit)}, ${moment(step.lastExit.at)}`);
    setAttribute(this.#lines, "title", step.lastExit?.detail || null);
    for (const probe of step.probes) {
      this.#value(probe.kind, probe.message);
    }
    const unread = figures?.unread ?? 0;
    setText(this.#unread, unread > 0 ? bytes(unread) : "");
    this.#fill.style.width = `${Math.min(1, unread / FULL) * 100}%`;
  }

  /** A line of the box; one without a value is left out. */
  #value(name, text) {
    let value = this.#values.get(name);
    if (value === undefined) {
      value = make("dd");
      this.#values.set(name, value);
      this.#lines.append(make("div", {}, make("dt", {}, name), value));
    }
    value.parentNode.hidden = text === "";
    setText(value, text);
  }
}
