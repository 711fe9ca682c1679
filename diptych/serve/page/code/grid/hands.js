// What fingers, mouse and keyboard do in the grid.

import { drag } from "../search/drags.js";

const HOLD = 450;

/**
 * @param {import("./grid.js").Grid} grid @param {import("../selection/selection.js").Selection} selection
 * @param {(index: number) => void} open @param {(ids: number[]) => void} ask add items to the search
 */
export function handle(grid, selection, open, ask) {
  const { element } = grid;
  const item = (index) => grid.source.item(index);
  const indexOf = (target) => {
    const cell = target.closest?.(".cell[data-index]");
    return cell ? Number(cell.dataset.index) : null;
  };
  let held = 0;
  let suppressed = false;

  element.addEventListener("click", (event) => {
    const index = indexOf(event.target);
    if (index === null || suppressed) return void (suppressed = false);
    grid.column = null;
    grid.active = index;
    const ticked = event.target.closest(".tick") || event.ctrlKey || event.metaKey || (selection.size && selection.touch);
    if (event.shiftKey && selection.size) range(grid, selection, index);
    else if (ticked) selection.toggle(item(index), index);
    else open(index);
  });

  element.addEventListener("pointerdown", (event) => {
    const index = indexOf(event.target);
    clearTimeout(held);
    suppressed = false;
    // A finger that rests on a picture selects it; only a mouse drags.
    if (index !== null) event.target.closest(".cell").draggable = event.pointerType === "mouse";
    if (index === null || event.pointerType === "mouse") return;
    held = setTimeout(() => {
      suppressed = true;
      selection.touch = true;
      selection.toggle(item(index), index);
    }, HOLD);
  });
  for (const name of ["pointerup", "pointercancel", "pointermove"]) {
    element.addEventListener(name, (event) => (name !== "pointermove" || Math.abs(event.movementY) > 3) && clearTimeout(held));
  }
  element.addEventListener("dragstart", (event) => {
    const dragged = item(indexOf(event.target));
    if (!dragged) return event.preventDefault();
    drag(event, selection.has(dragged.id) ? selection.ids : [dragged.id]);
  });
  element.addEventListener("contextmenu", (event) => suppressed && event.preventDefault());

  element.addEventListener("focusin", (event) => {
    const index = indexOf(event.target);
    if (index !== null) grid.active = index;
    if (index !== grid.awaited) grid.awaited = null;
  });
  element.addEventListener("focusout", (event) => !element.contains(event.relatedTarget) && (grid.column = null));

  document.addEventListener("keydown", (event) => {
    if (event.target !== element && event.target !== document.body && event.target !== document.getElementById("main")) return;
    if (event.ctrlKey || event.altKey || event.metaKey || !event.key.startsWith("Arrow")) return;
    if (!grid.shown || !grid.blocks.total || document.querySelector("dialog[open]")) return;
    grid.focus(grid.anchor()?.index ?? 0);
    event.preventDefault();
  });

  element.addEventListener("keydown", (event) => {
    const index = indexOf(event.target);
    if (index === null) return;
    const to = target(grid, index, event);
    if (to !== null) {
      grid.focus(to);
      if (event.shiftKey) range(grid, selection, grid.active);
    } else if (event.key === "Enter") open(index);
    else if (event.key === " ") event.shiftKey ? range(grid, selection, index) : selection.toggle(item(index), index);
    else if (event.key === "+") ask(item(index) ? [item(index).id] : []);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) selection.add([...grid.source.loaded()]);
    else return;
    event.preventDefault();
  });
}

/** Where a key leads to, or null. */
function target(grid, index, { key, altKey, ctrlKey, metaKey }) {
  if (altKey || ctrlKey || metaKey) return null;
  const screen = (step) => {
    let to = index;
    for (let k = 0; k < Math.max(1, Math.floor(innerHeight / grid.blocks.size.target) - 1); k++) to = grid.beside(to, step);
    return to;
  };
  const ways = {
    ArrowLeft: () => index - 1, ArrowRight: () => index + 1, ArrowUp: () => grid.beside(index, -1), ArrowDown: () => grid.beside(index, 1),
    Home: () => 0, End: () => grid.blocks.total - 1, PageUp: () => screen(-1), PageDown: () => screen(1),
  };
  if (!key.startsWith("Page") && key !== "ArrowUp" && key !== "ArrowDown") grid.column = null;
  return ways[key]?.() ?? null;
}

/** Select from the last that was picked to this one, as far as the pictures between are here. */
function range(grid, selection, index) {
  const from = selection.from ?? index;
  const items = [];
  for (let k = Math.min(from, index); k <= Math.max(from, index); k++) if (grid.source.item(k)) items.push(grid.source.item(k));
  selection.add(items);
}
