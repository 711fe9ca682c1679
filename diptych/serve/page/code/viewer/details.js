// What is known of a picture, beside it.

import { thumbnail } from "../api.js";
import { button, grouped, h } from "../dom.js";
import { clock } from "../grid/cells.js";

const dates = new Intl.DateTimeFormat("en", { dateStyle: "long", timeStyle: "short" });

export function day(iso) {
  const date = iso ? new Date(iso) : null;
  return date && !Number.isNaN(date.getTime()) ? dates.format(date) : iso;
}

export function bytes(size) {
  const units = ["B", "kB", "MB", "GB"];
  let k = 0;
  for (; size >= 1000 && k < 3; k++) size /= 1000;
  return `${size.toFixed(k && size < 10 ? 1 : 0)} ${units[k]}`;
}

/**
 * @param {any} item with `texts`, `copies` and `frames` once they are known
 * @param {{locate: (phrase: string) => void, open: (id: number) => void, folder: (path: string) => void,
 *   phrase: string}} act
 */
export function details(item, act) {
  const isText = item.modality === "text";
  const own = isText ? item.text : null; // it is shown large
  const texts = [...new Set([item.caption, ...(item.texts ?? []).map((each) => each.text)].filter((text) => text && text !== own))];
  const phrase = h("input.input", { value: act.phrase, "aria-label": "What to look for in the picture", placeholder: "a dog" });
  return [
    texts.length > 0 && h("section", {}, isText && h("h3", {}, "In the same file"), texts.map((text) => h("p", {}, text))),
    item.thumbnail && !isText && h("section", {}, h("h3", {}, "Where is it?"),
      h("form", { onsubmit: (event) => (event.preventDefault(), act.locate(phrase.value.trim())) }, phrase, button("heat", "Show where it is", null, { type: "submit" }))),
    facts(item, act),
    item.frames?.length > 1 && h("section", {}, h("h3", {}, "In this film"), h("div.near", {}, item.frames.map((frame) =>
      h("button", { type: "button", "aria-label": `At ${clock(frame.at_s)}`, title: clock(frame.at_s), "aria-current": frame.id === item.id ? "true" : null, onclick: () => act.open(frame.id) },
        frame.thumbnail ? h("img", { alt: "", loading: "lazy", src: thumbnail(frame, 160) }) : clock(frame.at_s))))),
    item.copies?.length > 0 && h("section", {}, h("h3", {}, "Copies"), h("ul.small", {}, item.copies.map((path) => h("li", {}, path)))),
  ].filter(Boolean);
}

function facts(item, act) {
  const folder = item.folder && h("a", { href: "#", onclick: (event) => (event.preventDefault(), act.folder(item.folder)) }, item.folder);
  const rows = [
    ["Name", item.name],
    ["Folder", folder],
    ["Taken", item.taken_at && day(item.taken_at)],
    ["Camera", item.camera],
    ["Size", item.width && `${grouped(item.width)} × ${grouped(item.height)} px${item.size ? `, ${bytes(item.size)}` : ""}`],
    ["Length", item.duration_s && `${clock(item.duration_s)}${item.at_s ? `, found at ${clock(item.at_s)}` : ""}`],
    ["Place", item.latitude !== null && item.latitude !== undefined && `${item.latitude.toFixed(5)}, ${item.longitude.toFixed(5)}`],
    ["Likeness", typeof item.score === "number" && `${item.score.toFixed(3)}${typeof item.z === "number" ? ` (z ${item.z.toFixed(1)})` : ""}`],
  ];
  return h("section", {}, h("h3", {}, "Details"), h("dl.numbers", {}, rows.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]).flat()));
}
