/** The generations of a flow's configuration, what each has changed, and the way back. */

import { ask, flowPath, read } from "./api.js";
import { confirmed, tell } from "./ask.js";
import { make } from "./dom.js";
import { moment } from "./format.js";

const EFFECTS = {
  none: "Nothing that runs is touched.",
  inPlace: "What runs goes on.",
  restart: "Its processes are ended as it says, then started anew.",
  start: "It is started.",
  stop: "It is stopped.",
};

/** The last generations, the newest first. */
export function historyOf(id, signal) {
  const section = make("section", { class: "history" }, "…");
  show(section, id, signal);
  return section;
}

async function show(section, id, signal) {
  try {
    const { history } = await read(flowPath(id, "/history"), { signal });
    section.replaceChildren(...history.map((entry, at) => entryOf(entry, at > 0 ? () => back(section, id, entry.generation, signal) : null)));
  } catch (error) {
    section.textContent = error.message;
  }
}

function entryOf({ generation, at, by, action, change, diff }, goBack) {
  const does = change === null ? "" : `, processes: ${change}`;
  return make(
    "article",
    {},
    make("h3", {}, `Generation ${generation} `, goBack === null ? "(now)" : make("button", { onclick: once(goBack) }, "Roll back to it")),
    make("p", {}, `${moment(at)}: ${action} by ${by}${does}`),
    diff === null ? make("p", {}, "What it has changed is not kept.") : make("pre", { class: "diff" }, ...diff.split("\n").map(diffLine)),
  );
}

/** A second click while the first is on its way is none. */
function once(work) {
  return async ({ currentTarget: button }) => {
    button.disabled = true;
    await work();
    button.disabled = false;
  };
}

function diffLine(line) {
  const kind = line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : null;
  return make("div", { class: kind }, line || " ");
}

/** What is done is what was foreseen: a flow that has changed since then is left as it is. */
async function back(section, id, generation, signal) {
  const path = flowPath(id, "/rollback");
  try {
    const version = (await ask(flowPath(id), { signal })).headers.get("ETag");
    const asked = { method: "POST", body: { generation }, headers: { "If-Match": version } };
    const foreseen = await read(`${path}?dryRun=All`, asked);
    const [{ change }] = foreseen.details;
    if (await confirmed(`Roll ${id} back to generation ${generation}? ${EFFECTS[change]}`, "Roll back")) {
      const done = await read(path, asked);
      tell(`${id} is as it was in generation ${generation}: that is generation ${done.generation} now`);
      show(section, id, signal);
    }
  } catch (error) {
    tell(`Roll back: ${error.message}`, "failed");
  }
}
