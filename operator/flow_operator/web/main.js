/** The dashboard: puts the parts together, and shows what the address names. */

import { forgetToken, hasToken, read, setToken } from "./api.js";
import { closeQuestions, tokenForm } from "./ask.js";
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
  const [, , name, part] = location.hash.split("/").map(decoded);
  const id = name || null;
  closeQuestions();
  if (page.id !== id) {
    page.shown.close();
    page = { id, shown: id === null ? list : new FlowPage(id, flows, figures) };
    figures.watch(id);
    document.title = id === null ? "flow-operator" : `${id} · flow-operator`;
    document.getElementById("view").replaceChildren(page.shown.element);
  }
  page.shown.show(part);
}

/** Somebody may have typed it. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function head() {
  const version = make("span", { class: "version" });
  const live = make("span", { class: "live" });
  const token = make("button", { hidden: true, onclick: () => (forgetToken(), location.reload()) }, "forget the token");
  const links = LINKS.map(([text, href]) => make("a", { href }, text));
  document.getElementById("head").append(make("a", { class: "home", href: "#/" }, "flow-operator"), version, live, ...links, token);
  flows.addEventListener("connection", async () => {
    setText(live, flows.connection);
    token.hidden = !hasToken();
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
    shown.replaceChildren(...(flows.reason === "" ? [] : [staleNotice()]), folder.element);
  }
}

function staleNotice() {
  const what = flows.connection === "away" ? "The operator is away" : "Changes are not told";
  const known = flows.known ? ` What you see was so at ${moment(flows.knownAt)}` : "";
  const on = flows.connection === "away" ? "; flows run on without it." : known && ".";
  return make("p", { class: "notice", role: "alert" }, `${what}: ${flows.reason}.${known}${on}`);
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
