/** Asks the operator that has served this page. */

const BASE = new URL("..", document.baseURI);
const TOKEN = "flow-operator token";

/** An answer that is none of success: RFC 9457. */
export class Problem extends Error {
  constructor(status, body) {
    const errors = (body.errors ?? []).map((error) => error.detail);
    super([body.detail ?? `the operator has answered ${status}`, ...errors].join("; "));
    this.status = status;
  }
}

/** The token is kept as long as this tab, and is sent to nobody but the operator. */
export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
}

/**
 * An answer of the API.
 * @param {string} path below the base URL, without a slash before it
 * @throws {Problem} it was refused
 * @throws {TypeError} nobody has answered
 */
export async function ask(path, { method = "GET", accept, body, signal, headers = {} } = {}) {
  const told = new Headers(headers);
  const token = sessionStorage.getItem(TOKEN);
  if (token !== null) {
    told.set("Authorization", `Bearer ${token}`);
  }
  if (accept !== undefined) {
    told.set("Accept", accept);
  }
  if (body !== undefined) {
    told.set("Content-Type", "application/json");
  }
  const response = await fetch(new URL(path, BASE), {
    method,
    headers: told,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
    cache: "no-store",
  });
  if (!response.ok) {
    throw new Problem(response.status, await response.json().catch(() => ({})));
  }
  return response;
}

/** The same, decoded. */
export async function read(path, options) {
  return (await ask(path, options)).json();
}

/** Aborted when nobody sees the page any more; there is another one when somebody does. */
let sight = new AbortController();

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") {
    sight.abort();
  } else {
    sight = new AbortController();
  }
});

/** Wait until somebody sees the page. */
async function seen() {
  while (document.visibilityState === "hidden") {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

/**
 * The messages of a stream, as they come.
 *
 * It is not begun while nobody sees the page, and ends when nobody does any more: a browser has six
 * connections for all its pages of an operator, also for those that it keeps to go back to.
 * @param {number} quiet seconds without any message after which the connection counts as dead
 */
export async function* stream(path, { signal, headers, quiet = Infinity } = {}) {
  await seen();
  const unseen = sight.signal;
  const dead = new AbortController();
  const either = AbortSignal.any([signal, unseen, dead.signal]);
  let timer = null;
  const heard = () => {
    clearTimeout(timer);
    if (quiet < Infinity) {
      timer = setTimeout(() => dead.abort(new TypeError("nothing comes any more")), quiet * 1000);
    }
  };
  try {
    heard();
    const response = await ask(path, { accept: "application/x-ndjson", signal: either, headers });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) {
        return;
      }
      heard();
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line !== "") {
          yield JSON.parse(line);
        }
      }
    }
  } catch (error) {
    if (!unseen.aborted || signal.aborted) {
      throw error;
    }
  } finally {
    clearTimeout(timer);
    dead.abort();
  }
}

/** A flow's part of a path. */
export function flowPath(id, rest = "") {
  return `flows/${encodeURIComponent(id)}${rest}`;
}

/** Wait, unless it is no longer wanted. */
export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** Looks take at most this share of the time, however much there is to be seen. */
const SHARE = 0.1;

/**
 * Look for ever, while anybody sees the page. A look that fails is none: that nobody answers is told
 * by who follows the statuses.
 * @param {number} period seconds between two looks, at least
 */
export async function poll(look, period) {
  for (;;) {
    await seen();
    const begun = performance.now();
    await look().catch(() => {});
    const took = (performance.now() - begun) / 1000;
    await pause(Math.max(period, took / SHARE));
  }
}

/** Delays between attempts, in seconds, that double. */
export class Backoff {
  #next = 0.25;

  wait(signal) {
    const delay = this.#next;
    this.#next = Math.min(delay * 2, 5);
    return pause(delay, signal);
  }

  reset() {
    this.#next = 0.25;
  }
}
