// The answer of POST /v1/drawings, event by event.

import { ApiError, request } from "../api.js";

/**
 * @param {object} wanted the body
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<{name: string, data: any}>}
 */
export async function* drawn(wanted, signal) {
  const response = await request("drawings", { json: wanted, accept: "text/event-stream", signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (text + value).split("\n\n");
    text = parts.pop() ?? "";
    for (const part of parts) yield eventOf(part);
  }
}

function eventOf(part) {
  const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(part) ?? [];
  const event = { name, data: JSON.parse(data ?? "null") };
  if (name === "problem") throw new ApiError(event.data.status, event.data);
  return event;
}

/** A PNG in base64 as a file. */
export function pngOf(base64, name) {
  const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
  return new File([bytes], name, { type: "image/png" });
}
