/** The page of one flow. */

import { flowPath, read } from "./api.js";
import { commandButtons } from "./commands.js";
import { make, setAttribute, setText } from "./dom.js";
import { Events } from "./events.js";
import { bytes, duration, labels, missed, moment, percent, since } from "./format.js";
import { historyOf } from "./history.js";
import { Logs } from "./logs.js";
import { Pipeline } from "./pipeline.js";

const TABS = ["logs", "events", "configuration", "history"];

/** Shows a flow until closed. */
export class FlowPage {
  #id;
  #flows;
  #figures;
  #closed = new AbortController();
  #pipeline = new Pipeline();
  #status = make("span", { class: "status" });
  #message = make("p", { class: "message" });
  #facts = make("p", { class: "facts" });
  #conditions = make("tbody");
  #gone = make("p", { class: "empty", hidden: true }, "There is no such flow, or no longer.");
  #buttons = commandButtons(() => [this.#id]);
  #rest;
  #tabs = make("nav", { class: "tabs", "aria-label": "more of this flow" });
  #part = make("div");
  #made = null;
  #tab = TABS[0];
  #told = "";
  #shown = "";
  element;

  constructor(id, flows, figures) {
    this.#id = id;
    this.#flows = flows;
    this.#figures = figures;
    this.#rest = make(
      "div",
      { class: "rest", hidden: true },
      this.#message,
      this.#facts,
      this.#pipeline.element,
      make("table", { class: "conditions", "aria-label": "conditions" }, this.#conditions),
      this.#tabs,
      this.#part,
    );
    const home = make("a", { href: "#/" }, "← all flows");
    const bar = make("div", { class: "bar" }, home, make("h1", {}, id), this.#status, ...this.#buttons);
    this.element = make("div", { class: "flow" }, bar, this.#gone, this.#rest);
  }

  /** Show what is known now. */
  refresh() {
    const flow = this.#flows.all.get(this.#id);
    const there = flow !== undefined;
    this.#gone.hidden = there || !this.#flows.known;
    this.#rest.hidden = this.#status.hidden = !there;
    this.#buttons.forEach((button) => (button.disabled = !there));
    setAttribute(this.element, "data-status", flow?.status ?? null);
    if (!there) {
      this.#leavePart();
      return;
    }
    const figures = this.#figures.of(flow);
    setText(this.#status, flow.status);
    setAttribute(this.#status, "data-desired", missed(flow));
    setText(this.#message, flow.message);
    setText(this.#facts, factsOf(flow, figures).join(" · "));
    this.#pipeline.draw(flow, figures);
    this.#drawConditions(flow.conditions);
    this.#drawPart(flow);
  }

  /** Show one of the parts below. */
  show(tab) {
    this.#tab = TABS.includes(tab) ? tab : TABS[0];
    this.refresh();
  }

  /** Ready, and those that tell of something: that there is no trouble is no news. */
  #drawConditions(all) {
    const conditions = all.filter(({ type, status }) => type === "Ready" || status !== "False");
    const told = JSON.stringify(conditions);
    if (told !== this.#told) {
      this.#told = told;
      this.#conditions.replaceChildren(...conditions.map(conditionOf));
    }
  }

  /** A part is made anew if it is of another flow of the name, or of another generation. */
  #drawPart(flow) {
    const follows = this.#tab === "logs" || this.#tab === "events";
    const shown = JSON.stringify([this.#tab, flow.uid, follows ? null : flow.generation]);
    if (shown !== this.#shown) {
      this.#leavePart();
      this.#shown = shown;
      this.#closed = new AbortController();
      this.#tabs.replaceChildren(...TABS.map((name) => this.#link(name)));
      this.#made = this.#make(this.#closed.signal);
      this.#part.replaceChildren(this.#made.element);
    }
    this.#made.refresh?.(flow);
  }

  #leavePart() {
    this.close();
    this.#shown = "";
    this.#part.replaceChildren();
  }

  #link(name) {
    const href = `#/flows/${encodeURIComponent(this.#id)}/${name}`;
    return make("a", { href, "aria-current": name === this.#tab ? "page" : null }, name);
  }

  #make(signal) {
    switch (this.#tab) {
      case "logs":
        return new Logs(this.#id, signal);
      case "events":
        return new Events(this.#id, signal);
      case "configuration":
        return { element: configurationOf(this.#id, signal) };
      default:
        return { element: historyOf(this.#id, signal) };
    }
  }

  /** Ask for nothing more. */
  close() {
    this.#closed.abort();
  }
}

function factsOf(flow, figures) {
  const from = flow.source.kind === "file" ? `from ${flow.source.file}` : "from the API";
  return [
    `${flow.readyReplicas} of ${flow.replicas} ready`,
    flow.startedAt === null ? null : `up ${duration(since(flow.startedAt))}`,
    figures.cpu === null ? null : `CPU ${percent(figures.cpu)}`,
    figures.memory ? `memory ${bytes(figures.memory)}` : null,
    `generation ${flow.observedGeneration}${flow.observedGeneration === flow.generation ? "" : ` of ${flow.generation}`}`,
    from,
    ...labels(flow),
  ].filter((fact) => fact !== null);
}

function conditionOf({ type, status, reason, message, lastTransitionTime }) {
  return make(
    "tr",
    { "data-condition": type },
    make("th", { scope: "row" }, type),
    make("td", {}, status),
    make("td", {}, reason),
    make("td", {}, message),
    make("td", {}, `since ${moment(lastTransitionTime)}`),
  );
}

function configurationOf(id, signal) {
  const shown = make("pre", { class: "configuration" }, "…");
  read(flowPath(id), { signal }).then(
    (flow) => (shown.textContent = JSON.stringify(flow, null, 2)),
    (error) => (shown.textContent = error.message),
  );
  return make("section", {}, shown);
}
