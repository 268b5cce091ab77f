/** start, stop, pause, resume and restart: asked for here, seen in the statuses. */

import { read } from "./api.js";
import { confirmed, tell } from "./ask.js";
import { make } from "./dom.js";
import { count, listed } from "./format.js";

const COMMANDS = [
  { command: "start", label: "Start", title: "Desired: running" },
  { command: "stop", label: "Stop", title: "Drain, then end: nothing is lost", asks: true },
  { command: "pause", label: "Pause", title: "Hold it where it is", asks: true },
  { command: "resume", label: "Resume", title: "Let it go on" },
  { command: "restart", label: "Restart", title: "Stop, then start", asks: true },
  { command: "stop", type: 1, label: "Stop hard", title: "End it at once: what is in flight is lost", grave: true },
];

/**
 * A button for each command.
 * @param {() => string[]} chosen the flows that it is for
 */
export function commandButtons(chosen) {
  return COMMANDS.map((one) =>
    make(
      "button",
      { title: one.title, class: one.grave ? "grave" : null, onclick: () => send(one, chosen()) },
      one.label,
    ),
  );
}

async function send({ command, type, label, asks, grave }, ids) {
  const whom = ids.length === 1 ? ids[0] : count(ids.length, "flow");
  const names = ids.length === 1 ? "" : ` ${listed(ids)}.`;
  const why = grave ? " What is in flight is lost." : "";
  if ((grave || (asks && ids.length > 1)) && !(await confirmed(`${label} ${whom}?${names}${why}`, label))) {
    return;
  }
  try {
    await read("flows/commands?timeout=0", {
      method: "PATCH",
      body: { command, flow_ids: ids, ...(type === undefined ? {} : { type }) },
    });
    tell(`${label}: asked for ${whom}`);
  } catch (error) {
    tell(`${label} ${whom}: ${error.message}`, "failed");
  }
}
