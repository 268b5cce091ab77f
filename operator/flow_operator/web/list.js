/** The page of all flows. */

import { commandButtons } from "./commands.js";
import { make, setText } from "./dom.js";
import { Table } from "./table.js";

/** In the order in which they are offered. */
const STATUSES = [
  ...["running", "starting", "pending", "backoff", "failed", "unknown"],
  ...["stopping", "stopped", "paused", "completed"],
];

/** Shows all flows, those that are searched for, or those of one status. */
export class ListPage {
  #flows;
  #table;
  #status = null;
  #search = make("input", {
    type: "search",
    placeholder: "name or label",
    "aria-label": "search",
    oninput: () => this.#filter(),
  });
  #chips = make("div", { class: "chips" });
  #chosen = make("span");
  #buttons = commandButtons(() => [...this.#table.chosen]);
  element;

  constructor(flows, figures) {
    this.#flows = flows;
    this.#table = new Table(flows, figures);
    this.#table.addEventListener("chosen", () => this.#drawTools());
    const tools = make("div", { class: "tools" }, this.#chosen, ...this.#buttons);
    const bar = make("div", { class: "bar" }, this.#search, this.#chips, tools);
    this.element = make("div", { class: "list" }, bar, this.#table.element);
    this.#drawTools();
  }

  /** Show what is known now. */
  refresh() {
    this.#drawChips();
    this.#table.refresh();
  }

  show() {
    this.refresh();
  }

  /** Nobody sees what is chosen any more. */
  close() {
    this.#table.clear();
  }

  #filter() {
    this.#table.filter(this.#search.value, this.#status);
  }

  #choose(status) {
    this.#status = this.#status === status ? null : status;
    this.#filter();
    this.#drawChips();
  }

  #drawTools() {
    const count = this.#table.chosen.size;
    setText(this.#chosen, `${count} chosen`);
    this.#buttons.forEach((button) => (button.disabled = count === 0));
  }

  /** Buttons are made anew only if others are to be shown: one may be about to be clicked. */
  #drawChips() {
    this.#chips.hidden = !this.#flows.known;
    const counts = new Map();
    for (const flow of this.#flows.all.values()) {
      counts.set(flow.status, (counts.get(flow.status) ?? 0) + 1);
    }
    const shown = STATUSES.filter((status) => status === this.#status || counts.has(status));
    if (this.#chips.dataset.shown !== shown.join()) {
      this.#chips.dataset.shown = shown.join();
      this.#chips.replaceChildren(...[null, ...shown].map((status) => this.#chip(status)));
    }
    [null, ...shown].forEach((status, at) => {
      const count = status === null ? this.#flows.all.size : (counts.get(status) ?? 0);
      const chip = this.#chips.children[at];
      setText(chip, `${status ?? "all"} ${count.toLocaleString("en")}`);
      chip.setAttribute("aria-pressed", String(status === this.#status));
    });
  }

  #chip(status) {
    return make("button", { "data-status": status ?? "all", onclick: () => this.#choose(status) });
  }
}
