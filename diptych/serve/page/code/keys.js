// Keys of the whole page, and the dialog that lists all keys.

import { dialog } from "./dialogs.js";
import { h } from "./dom.js";

const LISTED = {
  "Everywhere": [["/", "Search"], ["g p", "Photos"], ["g m", "Map"], ["g d", "Duplicates"], ["g a", "Albums"], ["g w", "Draw"], ["f", "Filters"], ["s", "Save the search"], ["t", "Light or dark"], ["?", "These keys"]],
  "In the search box": [["Enter", "Search, then on to the pictures"], ["↓", "On to earlier searches, or to the pictures"], ["Esc", "Leave the box"]],
  "Among the pictures": [["← → ↑ ↓", "Move; into the pictures, from outside them"], ["Home End", "First, last"], ["Enter", "Large view"], ["Space", "Select"], ["+", "Add to the search"], ["Shift + ←…", "Select on the way"], ["Ctrl + A", "Select all that is loaded"], ["Esc", "Clear the selection"]],
  "Large view": [["← →", "Previous, next"], ["h", "Heat map"], ["b", "Boxes"], ["i", "Details"], ["m", "More like this"], ["l", "Less like this"], ["x", "Select"], ["+ − 0", "Zoom"], ["Esc", "Back"]],
  "Map": [["← → ↑ ↓", "Move"], ["+ − 0", "Zoom"], ["Enter", "Open what is in the middle"]],
};

export function keysDialog() {
  const rows = Object.entries(LISTED).map(([title, keys]) => [h("h3", {}, title), ...keys.map(([key, what]) => h("div", {}, h("span", {}, what), h("kbd", {}, key)))]).flat();
  dialog("Keys", () => h("div.keys", {}, rows), { wide: true });
}

/** @param {Record<string, () => void>} ways a key, or "g" and a key, to what it does */
export function watchKeys(ways) {
  let before = { key: "", time: 0 };
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = /** @type {HTMLElement} */ (event.target);
    if (document.querySelector("dialog[open]")) return;
    if (target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [role=menu]")) return;
    const both = before.key === "g" && event.timeStamp - before.time < 1500 ? `g ${event.key}` : event.key;
    before = { key: event.key, time: event.timeStamp };
    const run = ways[both] ?? null;
    if (!run) return;
    event.preventDefault();
    run();
  });
}
