// Where every picture of a long list stands, though most have not been seen: blocks of a page each, laid out from the real
// shapes where these are known, otherwise from likely ones.

import { guesses, justify, shape } from "./layout.js";
import { PAGE } from "./source.js";

export class Blocks {
  constructor() {
    this.reset(0);
    this.size = { width: 0, target: 0, gap: 4 };
  }

  reset(total) {
    this.total = total;
    this.shapes = new Map();
    this.layouts = new Map();
    this.waiting = new Map();
    this.sum = 0;
    this.seen = 0;
    this.tops = null;
  }

  get number() {
    return Math.ceil(this.total / PAGE);
  }

  resize(size) {
    this.size = size;
    this.layouts.clear();
    this.waiting.clear();
    this.tops = null;
  }

  retotal(total) {
    if (total === this.total) return;
    this.layouts.delete(this.number - 1);
    this.total = total;
    this.layouts.delete(this.number - 1);
    this.tops = null;
  }

  /** The items of a block are known. */
  learn(block, items) {
    const shapes = Float32Array.from(items, (item) => (item.thumbnail ? shape(item.width, item.height) : 1.4));
    if (!this.shapes.has(block)) {
      for (const each of shapes) this.sum += each;
      this.seen += shapes.length;
    }
    this.shapes.set(block, shapes);
    this.layouts.delete(block);
    this.tops = null;
  }

  count(block) {
    return Math.min(PAGE, this.total - block * PAGE);
  }

  layout(block) {
    let found = this.layouts.get(block);
    if (!found) {
      const shapes = this.shapes.get(block);
      found = shapes && shapes.length === this.count(block) ? this.laid(block, shapes) : this.guess(block);
      if (shapes) this.layouts.set(block, found);
    }
    return found;
  }

  laid(block, shapes) {
    return justify(shapes, { ...this.size, ragged: block === this.number - 1 });
  }

  /** Blocks of one length wait with one layout. It keeps its mean, so that the list does not change its length with each page. */
  guess(block) {
    const size = this.count(block);
    const last = block === this.number - 1;
    const key = last ? `last ${size}` : "full";
    if (!this.waiting.has(key)) {
      const mean = this.seen ? this.sum / this.seen : 1.3;
      this.waiting.set(key, justify(guesses(size, mean), { ...this.size, ragged: last }));
    }
    return this.waiting.get(key);
  }

  /** Tops of all blocks, and the whole height at the end. */
  offsets() {
    if (!this.tops) {
      this.tops = new Float64Array(this.number + 1);
      for (let block = 0; block < this.number; block++) this.tops[block + 1] = this.tops[block] + this.layout(block).height;
    }
    return this.tops;
  }

  get height() {
    return Math.max(0, this.offsets()[this.number] - this.size.gap);
  }

  /** The block at a height. */
  blockAt(y) {
    const tops = this.offsets();
    let low = 0;
    let high = this.number - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (tops[middle] <= y) low = middle;
      else high = middle - 1;
    }
    return Math.max(0, low);
  }

  /** @returns {{block: number, row: import("./layout.js").Row, top: number, k: number}} where an item stands */
  place(index) {
    const block = Math.floor(index / PAGE);
    const inside = index % PAGE;
    const row = this.layout(block).rows.find((each) => inside < each.to);
    return { block, row, top: this.offsets()[block] + row.top, k: inside - row.from };
  }

  /** All rows that touch the heights from `low` to `high`. */
  *rows(low, high) {
    if (!this.number) return;
    const tops = this.offsets();
    for (let block = this.blockAt(low); block < this.number && tops[block] <= high; block++) {
      for (const row of this.layout(block).rows) {
        const top = tops[block] + row.top;
        if (top + row.height >= low && top <= high) yield { block, row, top };
      }
    }
  }
}
