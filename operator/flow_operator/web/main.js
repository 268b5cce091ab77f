/** The dashboard: puts the parts together, and shows what the address names. */

import { hasToken, read, setToken } from "./api.js";
import { tokenForm } from "./ask.js";
import { make, perFrame, setText } from "./dom.js";
import { Figures } from "./figures.js";
import { FlowPage } from "./flow.js";
import { Flows } from "./flows.js";
import { Folder } from "./folder.js";
import { moment } from "./format.js";
import { ListPage } from "./list.js";

const LINKS = [["REST API", "../docs"], ["metrics", "../metrics"]];

const flows = new Flows();
const figures = new Figures();
const folder = new Folder();
const list = new ListPage(flows, figures);

/** What is shown: all flows (its id is null), or one. */
let page = { id: undefined, shown: list };

/** The address is `#/`, or `#/flows/ID/PART`. */
function route() {
  const [, , name, part] = location.hash.split("/").map(decodeURIComponent);
  const id = name ?? null;
  if (page.id !== id) {
    page.shown.close();
    page = { id, shown: id === null ? list : new FlowPage(id, flows, figures) };
    figures.watch(id);
    document.title = id === null ? "flow-operator" : `${id} · flow-operator`;
    document.getElementById("view").replaceChildren(page.shown.element);
  }
  page.shown.show(part);
}

function head() {
  const version = make("span", { class: "version" });
  const live = make("span", { class: "live" });
  const links = LINKS.map(([text, href]) => make("a", { href }, text));
  document.getElementById("head").append(make("a", { class: "home", href: "#/" }, "flow-operator"), version, live, ...links);
  flows.addEventListener("connection", async () => {
    setText(live, flows.connection);
    if (flows.connection === "live") {
      setText(version, await read("").then((index) => index.version, () => ""));
    }
  });
}

/** What there is to say before anything else. */
function notices() {
  document.body.dataset.connection = flows.connection;
  const shown = document.getElementById("notices");
  if (flows.connection === "refused") {
    const why = hasToken() ? flows.reason : "flowd --tokens asks for one";
    shown.replaceChildren(tokenForm(why, (token) => (setToken(token), flows.retry())));
  } else {
    shown.replaceChildren(...(flows.connection === "away" ? [awayNotice()] : []), folder.element);
  }
}

function awayNotice() {
  const known = flows.knownAt > 0 ? ` What you see was so at ${moment(flows.knownAt)}; flows run on without it.` : "";
  return make("p", { class: "notice", role: "alert" }, `The operator is away: ${flows.reason}.${known}`);
}

const refresh = perFrame(() => page.shown.refresh());
flows.addEventListener("change", refresh);
figures.addEventListener("change", refresh);
flows.addEventListener("connection", notices);
addEventListener("hashchange", route);
head();
route();
notices();
flows.run();
figures.run();
folder.run();
