// What can be done with the selection, at the lower edge.

import { at, button, count, h, say } from "../dom.js";
import { addToAlbum, removeFromAlbum } from "../library/albums.js";
import { go, state } from "../state.js";
import { exportDialog } from "./exports.js";
import { labelDialog } from "./labels.js";

const MOST_TERMS = 8;

/** @param {import("./selection.js").Selection} selection @param {{addItems: (ids: number[]) => void}} box */
export function selectionBar(selection, box) {
  const bar = at("selection");
  const number = h("strong.numbers");
  const all = () => [...selection.items.values()];
  const text = { text: true, kind: "plain" };
  const similar = () => {
    const terms = all().slice(0, MOST_TERMS).map((item) => ({ item: item.id, weight: 1 }));
    selection.clear();
    go({ view: "photos", album: "", q: "", terms, item: null });
  };
  const drop = button("less", "Take out of the album", () => takeOut(selection), text);
  bar.append(number, button("label", "Label", () => labelDialog(all(), (items, name) => addToAlbum(items, name)), text),
    button("albums", "Album", () => addToAlbum(all()), text), drop, button("download", "Export", () => exportDialog({ items: selection.ids }, `${count(selection.size, "picture")} of your selection`), text),
    button("like", "More like these", similar, text), button("search", "Add to the search", () => box.addItems(selection.ids.slice(0, MOST_TERMS)), text),
    button("close", "Clear the selection", () => selection.clear(), { kind: "plain" }));
  let before = 0;
  selection.listen(() => {
    bar.hidden = !selection.size;
    number.textContent = `${selection.size} selected`;
    drop.hidden = !state().album;
    if (selection.size !== before) say(selection.size ? `${selection.size} selected` : "Nothing is selected.");
    before = selection.size;
  });
}

async function takeOut(selection) {
  await removeFromAlbum(state().album, selection.ids);
  selection.clear();
}
