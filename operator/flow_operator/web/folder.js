/** What is wrong with the manifests of the watched folder. */

import { poll, read } from "./api.js";
import { confirmed, tell } from "./ask.js";
import { make } from "./dom.js";
import { count, listed } from "./format.js";

/** Seconds between two looks. */
const PERIOD = 2;

/** Files, and faults of each, that are shown; `flowctl manifests` tells all. */
const MOST = 5;

/** Looks after the folder for ever. */
export class Folder {
  #told = "";
  element = make("div");

  run() {
    return poll(async () => this.#draw(await read("manifests")), PERIOD);
  }

  #draw(view) {
    const told = JSON.stringify(view);
    if (told !== this.#told) {
      this.#told = told;
      const faulty = view.files.filter((file) => file.error !== null);
      const more = faulty.length - MOST;
      const rest = more > 0 ? [make("p", { class: "notice" }, `and ${count(more, "more file")} with faults`)] : [];
      const held = view.held === null ? [] : [heldNotice(view)];
      this.element.replaceChildren(...held, ...faulty.slice(0, MOST).map(faultNotice), ...rest);
    }
  }
}

function faultNotice({ file, error, errors, flows }) {
  const goOn = flows.length > 0 ? `; ${listed(flows)} ${flows.length === 1 ? "goes" : "go"} on as before` : "";
  const shown = errors.slice(0, MOST).map((one) => make("li", {}, placeOf(one), one.detail));
  const more = errors.length > MOST ? make("li", {}, `and ${errors.length - MOST} more`) : null;
  return make("div", { class: "notice", "data-file": file }, make("p", {}, `${file}: ${errors.length > 0 ? count(errors.length, "fault") : error}${goOn}`), make("ul", {}, ...shown, more));
}

function placeOf({ line, column, pointer }) {
  const place = line ? `line ${line}, column ${column}` : "";
  return [place, pointer].filter((part) => part).join(", ") + ": ";
}

function heldNotice({ held, vanished }) {
  const prune = async () => {
    if (!(await confirmed(`${held}. Drain and remove ${listed(vanished)}?`, "Remove"))) {
      return;
    }
    try {
      const { flows } = await read("manifests/prune", { method: "POST", body: { flows: vanished } });
      tell(`${count(flows.length, "flow")} drained and removed`);
    } catch (error) {
      tell(error.message, "failed");
    }
  };
  return make("div", { class: "notice" }, make("p", {}, held), make("button", { class: "grave", onclick: prune }, `Remove ${count(vanished.length, "flow")}`));
}
