/** What the reader is asked and told: dialogs, notices and what was done. */

import { make } from "./dom.js";

const SECONDS = 8;

/**
 * Ask before something that cannot be taken back.
 * @returns {Promise<boolean>}
 */
export function confirmed(question, action) {
  return new Promise((resolve) => {
    const dialog = make(
      "dialog",
      { onclose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")) },
      make(
        "form",
        { method: "dialog" },
        make("p", {}, question),
        make("button", { value: "no", autofocus: true }, "Cancel"),
        make("button", { value: "yes", class: "grave" }, action),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** What was asked on a page that is left is no longer meant. */
export function closeQuestions() {
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
}

/** Tell what has become of something: for a while, or until it was read if it has failed. */
export function tell(text, kind = "done") {
  const close = () => toast.remove();
  const button = make("button", { onclick: close, "aria-label": "close" }, "×");
  const toast = make("p", { class: `toast ${kind}` }, make("span", {}, text), button);
  document.getElementById("toasts").append(toast);
  if (kind === "done") {
    setTimeout(close, SECONDS * 1000);
  }
}

/** What a token may be: RFC 6750. */
const BEARER = "\\s*[A-Za-z0-9._~+\\/\\-]+=*\\s*";

/** A form that asks for a token. */
export function tokenForm(why, taken) {
  const rules = { required: true, pattern: BEARER, title: "letters, digits and . _ ~ + / - only" };
  const field = make("input", { type: "password", id: "token", autocomplete: "off", ...rules });
  const submit = (event) => {
    event.preventDefault();
    taken(field.value.trim());
  };
  return make(
    "form",
    { class: "notice", onsubmit: submit },
    make("label", { for: "token" }, `Token (${why}) `),
    field,
    make("button", {}, "Use it"),
  );
}
