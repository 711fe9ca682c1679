// The terms beside the words: pictures and further words, each with its weight.

import { address, get, thumbnail } from "../api.js";
import { button, h, icon } from "../dom.js";

const uploads = new Map();

/** A picture's small image, as the box shows it. */
export function noteUpload(id, source) {
  uploads.set(id, source);
}

function image(term) {
  const picture = h("img", { alt: "", width: 28, height: 28 });
  if ("upload" in term) picture.src = uploads.get(term.upload) ?? `${address(`uploads/${term.upload}/thumbnail`)}?width=160`;
  else get(`items/${term.item}`).then((item) => shownAs(item, picture), () => {});
  return picture;
}

/** A text has no picture: its first words stand for it. */
function shownAs(item, picture) {
  if (item.thumbnail) picture.src = thumbnail(item, 160);
  else picture.replaceWith(h("span.words", {}, item.text ?? item.name));
}

const kindOf = (term) => ("text" in term ? term.text : "upload" in term ? "your picture" : "a picture");

const shown = (weight) => String(weight).replace("-", "−");

/**
 * A term as a button that opens its weight, with another that takes it away.
 * @param {{term: any, change: (weight: number) => void, drop: () => void, host: HTMLElement}} options
 */
export function termChip({ term, change, drop, host }) {
  const name = kindOf(term);
  const mark = term.weight === 1 ? null : h("span.weight", {}, term.weight < 0 ? "less" : "", " ", `× ${shown(Math.abs(term.weight))}`);
  const open = h("button", {
    type: "button", "aria-haspopup": "dialog", title: "Weight",
    "aria-label": `${name}, weight ${term.weight}`, onclick: () => weigher({ term, change, host, anchor: open, name, drop }),
  }, "text" in term ? h("span.words", {}, term.text) : image(term), mark);
  const off = h("button.off", { type: "button", "aria-label": `Remove ${name}`, onclick: drop }, icon("close"));
  return h(`span.term${term.weight < 0 ? ".less" : ""}`, {}, open, off);
}

/** The slider of a weight, below the box. From -1 (less like this) to 2; never 0. */
export function weigher({ term, change, host, anchor, name, drop = null }) {
  host.querySelector(".weigher")?.remove();
  const read = h("output", {}, shown(term.weight));
  const slider = h("input", { type: "range", min: -1, max: 2, step: 0.1, value: term.weight, "aria-label": `Weight of ${name}` });
  const value = () => Number(slider.value) || 0.1;
  const panel = h("div.weigher", { role: "dialog", "aria-label": `Weight of ${name}` },
    h("label.field", {}, h("span", {}, `Weight of ${name}`, read), slider),
    h("div.ends", {}, h("span", {}, "less like this"), h("span", {}, "more like this")),
    h("div.row", {}, button("", "Reset", () => ((slider.value = "1"), moved(), change(1)), { text: true, kind: "plain" }),
      button("", "Done", () => end(true), { text: true })));
  const moved = () => (read.textContent = shown(value()));
  const outside = (event) => !panel.contains(event.target) && end(false);
  const end = (back) => {
    panel.remove();
    document.removeEventListener("pointerdown", outside, true);
    if (back) (anchor.isConnected ? anchor : host.querySelector("input"))?.focus();
  };
  slider.addEventListener("input", moved);
  slider.addEventListener("change", () => change(value()));
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape" || event.key === "Enter") end(true);
    else if ((event.key === "Delete" || event.key === "Backspace") && drop) (end(true), drop());
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  document.addEventListener("pointerdown", outside, true);
  const left = anchor.getBoundingClientRect().left - host.getBoundingClientRect().left;
  panel.style.left = `${Math.max(0, Math.min(left, host.clientWidth - 320))}px`;
  host.append(panel);
  slider.focus();
}
