/** The table of all flows; however many there are, only the rows that are to be seen exist. */

import { make, perFrame, setAttribute, setText } from "./dom.js";
import { bytes, duration, labels, missed, percent, since } from "./format.js";

/** Pixels, as in style.css. */
const ROW = 34;

/** Rows beyond what is to be seen, so that scrolling shows no gap. */
const BEYOND = 8;

/** The order in which statuses are sorted: those first that somebody may have to look at. */
const GRAVITY = [
  ...["failed", "unknown", "backoff", "stopping", "starting", "pending"],
  ...["running", "paused", "completed", "stopped"],
];

const COLUMNS = [
  { title: "Name", text: (flow) => flow.flow_id },
  { title: "Status", text: (flow) => flow.status, sort: (flow) => GRAVITY.indexOf(flow.status) },
  { title: "Ready", text: (flow) => `${flow.readyReplicas}/${flow.replicas}`, sort: (flow) => flow.readyReplicas / flow.replicas },
  { title: "Restarts", text: (flow) => String(flow.restarts), sort: (flow) => flow.restarts, number: true },
  { title: "Up", text: uptime, sort: (flow) => (flow.startedAt === null ? 0 : since(flow.startedAt)), number: true },
  { title: "CPU", text: (_, of) => (of.cpu === null ? "" : percent(of.cpu)), sort: (_, of) => of.cpu ?? -1, number: true },
  { title: "Memory", text: (_, of) => (of.memory ? bytes(of.memory) : ""), sort: (_, of) => of.memory, number: true },
  { title: "Unread", text: (_, of) => (of.unread ? bytes(of.unread) : ""), sort: (_, of) => of.unread, number: true, hint: "Bytes in the pipes between its steps" },
  { title: "Message", text: (flow) => flow.message },
];

function uptime(flow) {
  return flow.startedAt === null ? "" : duration(since(flow.startedAt));
}

/**
 * Shows flows, filtered and sorted.
 *
 * `chosen` are the ids that are ticked; "chosen" is dispatched when they have changed.
 */
export class Table extends EventTarget {
  chosen = new Set();
  #flows;
  #figures;
  #rows = new Map();
  #shown = [];
  #text = "";
  #status = null;
  #sort = { column: COLUMNS[0], down: false };
  #body = make("tbody");
  #above = spacer();
  #below = spacer();
  #all = make("input", { type: "checkbox", "aria-label": "choose all", onchange: () => this.#chooseAll() });
  #heads = COLUMNS.map((column) => this.#head(column));
  #empty = make("p", { class: "empty", hidden: true });
  #table;
  #scroll;

  constructor(flows, figures) {
    super();
    this.#flows = flows;
    this.#figures = figures;
    const head = make("tr", {}, make("th", { class: "tick" }, this.#all), ...this.#heads);
    this.#table = make("table", {}, make("thead", {}, head), this.#body);
    this.#scroll = make(
      "div",
      { class: "flows", role: "region", "aria-label": "flows", onscroll: perFrame(() => this.#draw()) },
      this.#table,
      this.#empty,
    );
    addEventListener("resize", perFrame(() => this.#draw()));
  }

  get element() {
    return this.#scroll;
  }

  /** Show those only whose name or labels have a text, and that have a status (null: any). */
  filter(text, status) {
    this.#text = text.toLowerCase();
    this.#status = status;
    this.refresh();
  }

  /** Nothing is chosen any more. */
  clear() {
    this.#choose(new Set());
  }

  /** Show what is known now. */
  refresh() {
    const wanted = [...this.#flows.all.values()].filter((flow) => this.#wanted(flow));
    this.#shown = this.#held() ? this.#inPlace(wanted) : this.#sorted(wanted);
    this.#forget();
    this.#draw();
  }

  #sorted(flows) {
    const { column, down } = this.#sort;
    const key = column.sort ?? column.text;
    const keyed = flows.map((flow) => [key(flow, this.#figures.of(flow)), flow]);
    keyed.sort(([a, one], [b, other]) => (down ? -1 : 1) * compare(a, b) || compare(one.flow_id, other.flow_id));
    return keyed.map(([, flow]) => flow);
  }

  /** Whether somebody is about to choose: rows must not move from under the mouse, or the focus. */
  #held() {
    return this.chosen.size > 0 || this.#body.matches(":hover") || this.#body.contains(document.activeElement);
  }

  /** In the order in which they stand, the new ones at the end. */
  #inPlace(flows) {
    const left = new Map(flows.map((flow) => [flow.flow_id, flow]));
    const kept = this.#shown.map(({ flow_id }) => left.get(flow_id)).filter((flow) => flow !== undefined);
    kept.forEach(({ flow_id }) => left.delete(flow_id));
    return [...kept, ...this.#sorted([...left.values()])];
  }

  #wanted(flow) {
    return (
      (this.#status === null || flow.status === this.#status) &&
      (this.#text === "" || [flow.flow_id, ...labels(flow)].some((part) => part.toLowerCase().includes(this.#text)))
    );
  }

  /** What is gone, or out of sight, is no longer meant by the next command. */
  #forget() {
    const shown = new Set(this.#shown.map((flow) => flow.flow_id));
    this.#choose(new Set([...this.chosen].filter((id) => shown.has(id))));
  }

  #choose(chosen) {
    const changed = chosen.size !== this.chosen.size || [...chosen].some((id) => !this.chosen.has(id));
    this.chosen = chosen;
    this.#all.checked = chosen.size > 0 && chosen.size === this.#shown.length;
    this.#all.indeterminate = chosen.size > 0 && chosen.size < this.#shown.length;
    if (changed) {
      this.dispatchEvent(new Event("chosen"));
    }
  }

  #chooseAll() {
    this.#choose(new Set(this.#all.checked ? this.#shown.map((flow) => flow.flow_id) : []));
    this.#draw();
  }

  #head(column) {
    const sort = () => {
      this.#sort = { column, down: this.#sort.column === column ? !this.#sort.down : column.number === true };
      this.#shown = [];
      this.refresh();
    };
    return make(
      "th",
      { class: column.number ? "number" : null, title: column.hint ?? null },
      make("button", { onclick: sort }, column.title),
    );
  }

  #draw() {
    const from = Math.max(0, Math.floor(this.#scroll.scrollTop / ROW) - BEYOND);
    const seen = Math.ceil(this.#scroll.clientHeight / ROW) + 2 * BEYOND;
    const part = this.#shown.slice(from, from + seen);
    const rows = part.map((flow) => this.#row(flow));
    this.#above.style.height = `${from * ROW}px`;
    this.#below.style.height = `${(this.#shown.length - from - part.length) * ROW}px`;
    this.#place([this.#above, ...rows, this.#below]);
    setAttribute(this.#table, "aria-rowcount", String(this.#shown.length + 1));
    rows.forEach((row, at) => setAttribute(row, "aria-rowindex", String(from + at + 2)));
    const present = new Set(part.map((flow) => flow.flow_id));
    this.#rows.forEach((_, id) => present.has(id) || this.#rows.delete(id));
    COLUMNS.forEach((column, at) => setAttribute(this.#heads[at], "aria-sort", this.#direction(column)));
    this.#empty.hidden = this.#shown.length > 0 || !this.#flows.known;
    setText(this.#empty, this.#flows.all.size > 0 ? "No flow is like that." : "There are no flows yet: put a manifest into the folder, or POST one to /flows.");
  }

  /** Rows that stay where they are are not touched: one taken out and put back has lost the focus. */
  #place(wanted) {
    const kept = new Set(wanted);
    for (const row of [...this.#body.children]) {
      if (!kept.has(row)) {
        row.remove();
      }
    }
    wanted.forEach((row, at) => {
      if (this.#body.children[at] !== row) {
        this.#body.insertBefore(row, this.#body.children[at] ?? null);
      }
    });
  }

  #direction(column) {
    return this.#sort.column === column ? (this.#sort.down ? "descending" : "ascending") : null;
  }

  #row(flow) {
    const row = this.#rows.get(flow.flow_id) ?? this.#newRow(flow.flow_id);
    const figures = this.#figures.of(flow);
    row.tick.checked = this.chosen.has(flow.flow_id);
    setAttribute(row.element, "data-status", flow.status);
    COLUMNS.forEach((column, at) => {
      setText(row.cells[at], column.text(flow, figures));
    });
    setAttribute(row.cells[1], "data-desired", missed(flow));
    setAttribute(row.cells[0], "title", labels(flow).join(" ") || null);
    setAttribute(row.cells.at(-1), "title", flow.message || null);
    return row.element;
  }

  #newRow(id) {
    const choose = () => {
      const chosen = new Set(this.chosen);
      if (!chosen.delete(id)) {
        chosen.add(id);
      }
      this.#choose(chosen);
    };
    const tick = make("input", { type: "checkbox", "aria-label": `choose ${id}`, onchange: choose });
    const name = make("a", { href: `#/flows/${encodeURIComponent(id)}` });
    const rest = COLUMNS.slice(1).map((column) => make("span", { class: column.title === "Status" ? "status" : null }));
    const cells = [name, ...rest];
    const element = make(
      "tr",
      { "data-flow": id },
      make("td", { class: "tick" }, tick),
      ...cells.map((cell, at) => make("td", { class: classOf(COLUMNS[at]) }, cell)),
    );
    const row = { element, tick, cells };
    this.#rows.set(id, row);
    return row;
  }
}

function classOf(column) {
  return column.number ? "number" : column.title === "Message" ? "message" : null;
}

/** As high as the rows that do not exist. */
function spacer() {
  return make("tr", { class: "spacer", "aria-hidden": "true" }, make("td", { colspan: COLUMNS.length + 1 }));
}

function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}
