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

/** Tell what has become of something, for a while. */
export function tell(text, kind = "done") {
  const close = () => toast.remove();
  const toast = make("p", { class: `toast ${kind}`, onclick: close }, text);
  document.getElementById("toasts").append(toast);
  setTimeout(close, SECONDS * 1000);
}

/** A form that asks for a token. */
export function tokenForm(why, taken) {
  const field = make("input", { type: "password", id: "token", autocomplete: "off", required: true });
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
