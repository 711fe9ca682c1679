// Boxes around the places of a picture where a phrase fits, with their likeness.

import { cancelled, post } from "../api.js";
import { count, h, say } from "../dom.js";

const MOST = 8;
const LEAST = 0.005; // of the picture: smaller boxes than the best one are specks

export class Places {
  /** @param {import("./stage.js").Stage} stage @param {(error: any) => void} failed */
  constructor(stage, failed) {
    this.stage = stage;
    this.failed = failed;
    this.looking = new AbortController();
  }

  async locate(phrase) {
    this.clearPlaces();
    const { item } = this.stage;
    const looking = (this.looking = new AbortController());
    try {
      const found = await post("locate", { picture: { item: item.id }, phrase }, looking.signal);
      if (this.stage.item !== item || !this.stage.picture) return;
      this.draw(found, phrase);
    } catch (error) {
      if (!cancelled(error)) this.failed(error);
    }
  }

  draw(found, phrase) {
    const area = (box) => (box.width * box.height) / (found.width * found.height);
    const boxes = found.boxes.filter((box, k) => k === 0 || area(box) >= LEAST).slice(0, MOST);
    this.stage.note(boxes.length ? "" : `No part of the picture stands out for “${phrase}”.`);
    say(boxes.length ? `${count(boxes.length, "box", "boxes")} for ${phrase}.` : `No box for ${phrase}.`);
    if (!boxes.length) return;
    const share = (part, whole) => `${(100 * part) / whole}%`;
    this.stage.picture.append(h("ol.places", { "aria-label": `Boxes for “${phrase}”` }, boxes.map((box) => h("li.place", {
      style: {
        left: share(box.x, found.width), top: share(box.y, found.height),
        width: share(box.width, found.width), height: share(box.height, found.height),
      },
    }, h("span.unseen", {}, `${where(box, found)}, likeness `), h("span.score", {}, box.score.toFixed(3))))));
  }

  clearPlaces() {
    this.looking.abort();
    for (const each of this.stage.element.querySelectorAll(".places")) each.remove();
  }
}

/** Where a box lies, for who does not see it. */
function where(box, { width, height }) {
  const third = (middle, whole, names) => names[Math.min(2, Math.floor((3 * middle) / whole))];
  const down = third(box.y + box.height / 2, height, ["top", "middle", "bottom"]);
  const across = third(box.x + box.width / 2, width, ["left", "centre", "right"]);
  const part = Math.round((100 * box.width * box.height) / (width * height));
  return `${down} ${across}, ${part} % of the picture`;
}
