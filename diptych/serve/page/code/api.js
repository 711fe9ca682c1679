// The service's API. Paths are relative to the page, so that it works below any --root-path.

/** What went wrong, in the service's words (RFC 9457). */
export class ApiError extends Error {
  constructor(status, body) {
    super([body.problem || body.detail || body.title || `The server answered ${status}.`, body.remedy].filter(Boolean).join(" "));
    this.status = status;
    this.kind = body.code ?? "";
    this.argument = body.argument ?? null;
  }
}

/** Somebody has to give the token first; `unlock` lets the requests that wait go on. */
let locked = null;
let ask = async () => {};

export function onLocked(asking) {
  ask = asking;
}

export const address = (path) => new URL(`v1/${path}`, document.baseURI).href;

/** A path with its parameters; empty ones are left out. */
export function withParameters(path, parameters = {}) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) given.set(name, String(value));
  }
  const text = given.toString();
  return text ? `${path}?${text}` : path;
}

/**
 * A request, as a response that is fine. A busy server (429, 503) is asked again when it says.
 * @param {string} path
 * @param {{method?: string, json?: any, body?: BodyInit, type?: string, accept?: string, signal?: AbortSignal}} [options]
 */
export async function request(path, options = {}) {
  for (let attempt = 0; ; attempt++) {
    const response = await fetch(address(path), init(options));
    if (response.ok) return response;
    const wait = Number(response.headers.get("Retry-After"));
    if ((response.status === 429 || response.status === 503) && wait > 0 && attempt < 3) {
      await pause(Math.min(wait, 10) * 1000, options.signal);
    } else if (response.status === 401 && attempt < 3 && path !== "session") {
      await (locked ??= ask().finally(() => (locked = null)));
    } else {
      throw await problem(response);
    }
  }
}

function init({ method, json, body, type, accept = "application/json", signal }) {
  const headers = { Accept: accept };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  else if (type) headers["Content-Type"] = type;
  const sent = json === undefined ? body : JSON.stringify(json);
  return { method: method ?? (sent === undefined ? "GET" : "POST"), headers, body: sent, signal, credentials: "same-origin" };
}

async function problem(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // A proxy's answer: the status says enough.
  }
  return new ApiError(response.status, body ?? {});
}

export const get = async (path, parameters, signal) => (await request(withParameters(path, parameters), { signal })).json();
export const post = async (path, json, signal) => (await request(path, { json, signal })).json();
export const patch = async (path, json) => (await request(path, { method: "PATCH", json })).json();
export const remove = (path) => request(path, { method: "DELETE" });

/** Wait; rejects with AbortError if the signal comes first. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => (clearTimeout(timer), reject(new DOMException("Cancelled.", "AbortError")));
    const timer = setTimeout(() => (signal?.removeEventListener("abort", stop), resolve(undefined)), milliseconds);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** What is computed in the background: asked for until it is there. `progress(done, total)` meanwhile. */
export async function computed(path, { accept, signal, progress }) {
  for (;;) {
    const response = await request(path, { accept, signal });
    if (response.status !== 202) return response;
    const body = await response.json();
    progress(body.done ?? 0, body.total ?? 0);
    await pause(Math.max(0.3, Number(response.headers.get("Retry-After")) || 1) * 1000, signal);
  }
}

/** Whether a request was cancelled rather than failed. */
export const cancelled = (error) => error?.name === "AbortError";

/** The picture of an item at most `width` pixels on its longer side. */
export function thumbnail(item, width) {
  if (!item.thumbnail) return "";
  return `${item.thumbnail}${item.thumbnail.includes("?") ? "&" : "?"}width=${width}`;
}

/**
 * The events of the index, while the page is seen: browsers allow a server six connections for all its pages, and a hidden
 * page should hold none.
 */
export function watch(handlers) {
  let source = null;
  const open = () => {
    source = new EventSource(address("events"), { withCredentials: true });
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    }
  };
  const follow = () => {
    if (document.hidden && source) source = source.close() ?? null;
    else if (!document.hidden && (!source || source.readyState === EventSource.CLOSED)) open();
  };
  document.addEventListener("visibilitychange", follow);
  window.addEventListener("pagehide", () => source?.close());
  window.addEventListener("pageshow", follow);
  setInterval(follow, 15000);
  follow();
}
