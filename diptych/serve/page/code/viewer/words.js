// A text in the large view: a caption with its picture, or a paragraph of a file; below it what pictures fit its words.

import { get, post, thumbnail } from "../api.js";
import { h } from "../dom.js";
import { named } from "../grid/cells.js";

const SHOWN = 12;

/** @param {any} item @param {(id: number) => void} open another item */
export function words(item, open) {
  const text = item.text ?? item.name;
  const source = item.thumbnail ? `Caption of ${item.name}` : item.line ? `${item.path}, line ${item.line}` : item.path;
  const pictures = h("ul.fitting");
  const rest = h("section", { hidden: true, "aria-label": "Pictures that fit these words" }, h("h3", {}, "Pictures that fit these words"), pictures);
  const element = h("article.words", {}, item.thumbnail && own(item, open), h(`blockquote${text.length > 300 ? ".long" : ""}`, {}, text), h("p.soft", {}, source), rest);
  fitting(item).then((found) => {
    rest.hidden = !found.length;
    pictures.append(...found.map((hit) => h("li", {}, h("button", { type: "button", "aria-label": named(hit), title: hit.name, onclick: () => open(hit.id) },
      hit.thumbnail ? h("img", { alt: "", decoding: "async", src: thumbnail(hit, 320) }) : h("span.unshown", {}, hit.name)))));
  });
  return element;
}

/** The picture that a caption belongs to. */
function own(item, open) {
  const look = async () => open((await get(`items/${item.id}`)).picture);
  return h("button.own-picture", { type: "button", "aria-label": `The picture ${item.name}`, onclick: look }, h("img", { alt: "", src: thumbnail(item, 640) }));
}

async function fitting(item) {
  try {
    return (await post("search", { terms: [{ item: item.id }], limit: SHOWN })).hits;
  } catch {
    return []; // the words are there all the same
  }
}
