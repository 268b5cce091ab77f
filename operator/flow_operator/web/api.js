/** Asks the operator that has served this page. */

const BASE = new URL("..", document.baseURI);
const TOKEN = "flow-operator token";

/** Seconds after which a question counts as not answered. */
const PATIENCE = 20;

/** An answer that is none of success: RFC 9457. */
export class Problem extends Error {
  constructor(status, body) {
    const details = [body.detail, ...(body.errors ?? []).map((error) => error.detail)];
    super([...new Set(details)].filter((one) => one).join("; ") || `the operator has answered ${status}`);
    this.status = status;
  }
}

/** Nobody has answered. */
export class Away extends Error {
  constructor() {
    super("the operator does not answer");
  }
}

/** The token is kept as long as this tab, and is sent to nobody but the operator. */
export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export function forgetToken() {
  sessionStorage.removeItem(TOKEN);
}

export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
}

/**
 * An answer of the API.
 * @param {string} path below the base URL, without a slash before it
 * @throws {Problem} it was refused
 * @throws {Away} nobody has answered
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
  const asked = { method, headers: told, body: JSON.stringify(body), signal, cache: "no-store" };
  const response = await reached(fetch(new URL(path, BASE), asked), signal);
  if (!response.ok) {
    throw new Problem(response.status, await response.json().catch(() => ({})));
  }
  return response;
}

/** The same, decoded, and not waited for without end. */
export async function read(path, options = {}) {
  const signal = either(AbortSignal.timeout(PATIENCE * 1000), options.signal);
  const response = await ask(path, { ...options, signal });
  return reached(response.json(), options.signal);
}

/** What fetch throws when nobody answers is also what a mistake of ours is. */
async function reached(answer, signal) {
  try {
    return await answer;
  } catch (error) {
    throw signal?.aborted && signal.reason?.name === "AbortError" ? error : new Away();
  }
}

function either(...signals) {
  return AbortSignal.any(signals.filter((signal) => signal !== undefined));
}

/** Aborted when the streams are to end; those that are begun then have another one. */
let sight = new AbortController();

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") {
    endStreams();
  }
});

/** Wait until somebody sees the page. */
async function seen() {
  while (document.visibilityState === "hidden") {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

/**
 * End all streams, for whoever follows to begin them anew: nobody sees the page any more; or the
 * operator was away, and who waits for a line might never learn of it.
 */
export function endStreams() {
  sight.abort();
  sight = new AbortController();
}

/**
 * The messages of a stream, as they come.
 *
 * It is not begun while nobody sees the page, and ends when nobody does any more: a browser has six
 * connections for all its pages of an operator, also for those that it keeps to go back to.
 * @param {() => void} opened called when the operator has begun to answer
 * @param {number} quiet seconds without any message after which the connection counts as dead
 */
export async function* stream(path, { signal, headers, opened = () => {}, quiet = Infinity } = {}) {
  await seen();
  const unseen = sight.signal;
  const dead = new AbortController();
  let timer = null;
  const heard = (patience) => {
    clearTimeout(timer);
    timer = patience < Infinity ? setTimeout(() => dead.abort(new Away()), patience * 1000) : null;
  };
  try {
    heard(PATIENCE);
    const asked = { accept: "application/x-ndjson", signal: either(unseen, dead.signal, signal), headers };
    const response = await ask(path, asked);
    heard(quiet);
    opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reached(reader.read(), signal);
      if (done) {
        return;
      }
      heard(quiet);
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line !== "") {
          yield JSON.parse(line);
        }
      }
    }
  } catch (error) {
    if (!unseen.aborted || signal?.aborted) {
      throw error;
    }
  } finally {
    clearTimeout(timer);
    dead.abort();
  }
}

/** Seconds without a word after which a watch counts as dead: twice what the operator lets pass. */
export const QUIET = 35;

/**
 * Take the messages of a stream, and of the next one when it ends, until `signal`.
 * @param {() => AsyncIterable<Object>} open begins the stream as it is to go on now
 * @param {(message: Object) => void} take
 * @param {(error: Error) => boolean|void} failed told why one has ended; true gives up
 */
export async function follow({ signal, open, take, failed }) {
  const backoff = new Backoff();
  while (!signal.aborted) {
    try {
      for await (const message of open()) {
        take(message);
        backoff.reset();
      }
    } catch (error) {
      if (signal.aborted || failed(error)) {
        return;
      }
    }
    await backoff.wait(signal).catch(() => {});
  }
}

/** A flow's part of a path. */
export function flowPath(id, rest = "") {
  return `flows/${encodeURIComponent(id)}${rest}`;
}

/** Wait, unless it is no longer wanted. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const end = () => (clearTimeout(timer), reject(signal.reason));
    const timer = setTimeout(() => (signal?.removeEventListener("abort", end), resolve()), seconds * 1000);
    signal?.addEventListener("abort", end, { once: true });
  });
}

/** Looks take at most this share of the time, however much there is to be seen. */
const SHARE = 0.1;

/**
 * Look for ever, while anybody sees the page. A look that fails is none: why, is told by who follows
 * the statuses.
 * @param {number} period seconds between two looks, at least
 */
export async function poll(look, period) {
  for (;;) {
    await seen();
    const begun = performance.now();
    await look().catch((error) => {
      if (!(error instanceof Problem || error instanceof Away)) {
        console.error(error);
      }
    });
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
