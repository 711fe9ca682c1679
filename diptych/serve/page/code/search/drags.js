// Pictures of the page that are dragged onto the search box.

const KIND = "application/x-diptych-items";
const MOST = 8;

/** Begin to drag items. */
export function drag(event, ids) {
  event.dataTransfer.setData(KIND, ids.slice(0, MOST).join(","));
  event.dataTransfer.effectAllowed = "copy";
}

/** @param {HTMLElement} target where they may fall @param {(ids: number[]) => void} take */
export function watchDrags(target, take) {
  const ours = (event) => event.dataTransfer?.types.includes(KIND);
  addEventListener("dragstart", (event) => ours(event) && target.classList.add("awaited"));
  for (const name of ["dragend", "drop"]) addEventListener(name, () => target.classList.remove("awaited", "over"));
  target.addEventListener("dragover", (event) => {
    if (!ours(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    target.classList.add("over");
  });
  target.addEventListener("dragleave", (event) => !target.contains(event.relatedTarget) && target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    if (!ours(event)) return;
    event.preventDefault();
    take(event.dataTransfer.getData(KIND).split(",").map(Number).filter(Number.isSafeInteger));
  });
}
