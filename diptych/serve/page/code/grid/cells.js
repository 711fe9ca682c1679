// What one picture of the grid looks like.

import { thumbnail } from "../api.js";
import { grouped, h, icon } from "../dom.js";

/** How an item is called, aloud and under the pointer. */
export function named(item) {
  const moment = item.at_s ? `, at ${clock(item.at_s)}` : "";
  return `${(item.modality === "text" && item.text) || item.caption || item.text || item.name}${moment}${item.kind === "video" ? ", film" : ""}`;
}

export function clock(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return (parts[0] ? parts : parts.slice(1)).map((part, k) => (k ? String(part).padStart(2, "0") : part)).join(":");
}

/** A place in a row without its picture yet. */
export function blank(left, width) {
  return h("div.cell", { "aria-hidden": "true", style: { left: `${left}px`, width: `${width}px` } });
}

/**
 * @param {any} item
 * @param {{left: number, width: number, height: number, index: number, total: number, selected: boolean}} place
 */
export function cell(item, { left, width, height, index, total, selected }) {
  const element = h("div.cell", {
    role: "option", tabindex: "-1", "aria-selected": String(selected), "aria-posinset": index + 1, "aria-setsize": total,
    "aria-label": named(item), "data-index": index, "data-id": item.id, "data-name": item.name, title: item.name,
    style: { left: `${left}px`, width: `${width}px` },
  });
  if (item.thumbnail) element.append(picture(item, element, width, height));
  else element.append(h(item.text ? "p.paragraph" : "p.paragraph.unshown", {}, item.text ?? item.name));
  if (item.thumbnail && item.modality === "text") element.append(h("p.caption", { "aria-hidden": "true" }, item.text));
  element.append(h("span.tick", {}, icon("check")), ...badges(item));
  return element;
}

function picture(item, element, width, height) {
  if (item.width && Math.abs(item.width / item.height / (width / height) - 1) < 0.06) element.classList.add("near");
  const image = h("img", { alt: "", decoding: "async", draggable: "false" });
  image.dataset.src = thumbnail(item, widthFor(Math.max(width, height) * Math.min(2, devicePixelRatio)));
  image.addEventListener("load", () => element.classList.add("ready"));
  image.addEventListener("error", () => image.hasAttribute("src") && element.classList.add("lost"));
  return image;
}

const WIDTHS = [160, 240, 320, 480, 640];

/**
 * A thumbnail a little smaller than its cell is as good to the eye, and needs much less memory than the next larger one: browsers
 * keep about a thousand decoded pictures, whatever their size.
 */
const widthFor = (pixels) => WIDTHS.find((width) => width * 1.2 >= pixels) ?? 1280;

function badges(item) {
  const out = [];
  if (item.kind === "video") out.push(h("span.badge", {}, icon("video"), clock(item.at_s || item.duration_s || 0)));
  else if (item.copies?.length) out.push(h("span.badge", {}, icon("duplicates"), grouped(item.copies.length + 1)));
  if (typeof item.score === "number") out.push(h("span.badge.likeness", {}, item.score.toFixed(3)));
  return out;
}

/** Begin to load the pictures of a row. */
export function fetchPictures(row) {
  for (const image of row.querySelectorAll("img[data-src]:not([src])")) image.src = image.dataset.src;
}

/** What is out of sight is given up: what still loads is cancelled, what was decoded is freed. */
export function dropPictures(row) {
  for (const image of row.querySelectorAll("img[src]")) image.removeAttribute("src");
}
