// How the index stands, live.

import { get, request } from "./api.js";
import { dialog } from "./dialogs.js";
import { at, button, count, grouped, h, toast } from "./dom.js";

const STATES = { warming: "Warming up", scanning: "Looking for new pictures", indexing: "Indexing", building: "Building the index", waiting: "Another process writes the index" };

/** Show the index's state below the search box, while there is something to see. */
export function showProgress(index) {
  const host = at("progress");
  const working = STATES[index.state];
  host.hidden = !working && index.state !== "failed";
  if (index.state === "failed") return host.replaceChildren(h("span.problem", {}, index.error || "The index could not be updated."), button("again", "Try again", update, { text: true, kind: "plain" }));
  if (!working) return;
  if (host.dataset.state !== index.state) {
    host.dataset.state = index.state;
    host.replaceChildren(h("span.said"), h("progress", { "aria-label": "Progress of indexing" }));
  }
  const bar = host.querySelector("progress");
  const said = host.querySelector(".said");
  if (!bar || !said) return;
  said.textContent = index.total ? `${working}: ${grouped(index.done)} of ${grouped(index.total)}` : `${working} …`;
  if (index.total) {
    bar.max = index.total;
    bar.value = index.done;
  } else bar.removeAttribute("value");
}

export async function update() {
  try {
    await request("index/update", { method: "POST" });
    toast("New and changed files are being looked for.");
  } catch (error) {
    toast(error.message);
  }
}

/** What is indexed, and what could not be. */
export async function indexDialog() {
  const host = h("div", { style: { display: "grid", gap: "16px" } }, h("p.soft", {}, "One moment …"));
  dialog("The library", () => host);
  try {
    const index = await get("index");
    const facts = [["Folder", index.name], ["Pictures", grouped(index.pictures)], ["Texts", grouped(index.texts)], ["Files", grouped(index.files)], ["Model", index.model]];
    host.replaceChildren(h("dl.facts.numbers", {}, facts.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      ...(index.failed ? await failures(index.failed) : []),
      h("div.dialog-foot", {}, button("again", "Look for new pictures", update, { text: true })));
  } catch (error) {
    host.replaceChildren(h("p.problem", { role: "alert" }, error.message));
  }
}

async function failures(number) {
  const answer = await get("index/failures");
  const list = answer.failures.slice(0, 200).map((each) => h("li", {}, h("strong", {}, each.path), h("p.small.soft", {}, (each.detail || each.reason).replace(`${each.path}: `, ""))));
  return [h("h3", {}, `${count(number, "file")} could not be read`), h("ul.list", {}, list)];
}
