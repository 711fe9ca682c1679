// Lists, contact sheets and folders of links, as files to keep.

import { request } from "../api.js";
import { dialog } from "../dialogs.js";
import { button, field, h, toast } from "../dom.js";
import { segments } from "../search/filters.js";

const FORMATS = { paths: "Paths", csv: "Table", json: "JSON", sheet: "Contact sheet", links: "Links" };
const SAID = {
  paths: "A text file with a path in each line.", csv: "A table with path, date, place, camera and caption.",
  json: "All that is known, for programs.", sheet: "One PNG picture of at most 200 small ones.", links: "A ZIP file of links to the files; no picture is copied.",
};

/** Save a file that the page holds. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = h("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 30000);
}

export const saveText = (text, name) => save(new Blob([text], { type: "text/plain;charset=utf-8" }), name);

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch {
    toast("The browser does not allow copying here; the list can be downloaded.");
  }
}

function fileName(response, otherwise) {
  const given = /filename="?([^";]+)"?/.exec(response.headers.get("Content-Disposition") ?? "");
  return given ? given[1] : otherwise;
}

/** @param {any} what `{items}`, `{album}` or `{search}` @param {string} words what it is, for people */
export function exportDialog(what, words) {
  dialog("Export", (close) => {
    const format = segments("As", "format", FORMATS, "paths");
    const said = h("p.soft", {}, SAID.paths);
    const absolute = h("input", { type: "checkbox" });
    const title = h("input.input", { maxlength: 100 });
    const columns = h("input.input", { type: "number", min: 1, max: 20, value: 5 });
    const size = h("input.input", { type: "number", min: 64, max: 640, step: 16, value: 160 });
    const limit = h("input.input", { type: "number", min: 1, max: 20000, value: 500 });
    const paths = h("label.check", {}, absolute, "Whole paths, from the root");
    const sheet = h("div.pair", { hidden: true }, field("Title", title), h("div.pair", {}, field("Columns", columns), field("Pixels each", size)));
    const problem = h("p.problem", { role: "alert", hidden: true });
    const run = button("download", "Download", null, { text: true, kind: "main", type: "submit" });
    format.element.addEventListener("change", () => {
      said.textContent = SAID[format.value()];
      paths.hidden = format.value() !== "paths";
      sheet.hidden = format.value() !== "sheet";
    });
    const send = async (event) => {
      event.preventDefault();
      if (run.hasAttribute("aria-disabled")) return;
      run.setAttribute("aria-disabled", "true");
      problem.hidden = true;
      try {
        await download({
          ...what, format: format.value(),
          ...(what.search ? { limit: Number(limit.value) } : {}),
          ...(format.value() === "paths" ? { absolute: absolute.checked } : {}),
          ...(format.value() === "sheet" ? { columns: Number(columns.value), size_px: Number(size.value), title: title.value } : {}),
        });
        close();
      } catch (error) {
        problem.textContent = error.message;
        problem.hidden = false;
      }
      run.removeAttribute("aria-disabled");
    };
    return h("form", { onsubmit: send, style: { display: "grid", gap: "16px" } }, h("p", {}, words), format.element, said, paths, sheet,
      what.search && field("At most", limit), problem, h("div.dialog-foot", {}, button("", "Cancel", close, { text: true }), run));
  });
}

/** @param {any} body of an export @param {string} [name] of the file */
export async function download(body, name) {
  const response = await request("exports", { json: body, accept: "*/*" });
  const ending = { paths: "txt", csv: "csv", json: "json", sheet: "png", links: "zip" }[body.format];
  save(await response.blob(), name ?? fileName(response, `pictures.${ending}`));
  toast("The file is in your downloads.");
}
