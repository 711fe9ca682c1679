// The points of the map, and small pictures for some of them.

import { address } from "../api.js";

const ROW = 20;
const KEPT = 500;
const FETCHED = 8;
const SMALLEST = 160;

/** Little-endian rows of uint64 id, below 2^53, float32 x, float32 y, float32 aspect. */
export function readPoints(buffer) {
  const size = Math.floor(buffer.byteLength / ROW);
  const view = new DataView(buffer);
  const points = { size, stretch: 1, ids: new Float64Array(size), x: new Float32Array(size), y: new Float32Array(size), aspects: new Float32Array(size) };
  for (let k = 0; k < size; k++) {
    points.ids[k] = Number(view.getBigUint64(k * ROW, true));
    points.x[k] = view.getFloat32(k * ROW + 8, true);
    points.y[k] = view.getFloat32(k * ROW + 12, true);
    points.aspects[k] = view.getFloat32(k * ROW + 16, true) || 1;
  }
  return points;
}

/** Make the map so wide. */
export function stretch(points, wide) {
  if (points.stretch === wide) return false;
  for (let k = 0; k < points.size; k++) points.x[k] *= wide / points.stretch;
  points.stretch = wide;
  return true;
}

/** The nearest point within some pixels of a place on the screen, or -1. */
export function nearest(points, camera, x, y, within) {
  const at = camera.toWorld(x, y);
  let best = (within / camera.scale) ** 2;
  let found = -1;
  for (let k = 0; k < points.size; k++) {
    const distance = (points.x[k] - at.x) ** 2 + (points.y[k] - at.y) ** 2;
    if (distance < best) [best, found] = [distance, k];
  }
  return found;
}

/**
 * Those that are shown as pictures: one for each square of a grid that lies on the map, not on the screen, so that they stay
 * while the map moves.
 */
export class Chosen {
  constructor(points) {
    this.points = points;
    this.levels = new Map();
  }

  /** @returns {{side: number, columns: number, at: Map<number, number>}} squares' sides in the map, and square -> point */
  level(scale, pixels) {
    const level = Math.max(1, Math.round(Math.log2(scale / pixels)));
    if (!this.levels.has(level)) {
      if (this.levels.size > 6) this.levels.clear();
      this.levels.set(level, this.choose(2 ** level));
    }
    return this.levels.get(level);
  }

  choose(across) {
    const at = new Map();
    const { x, y, size, stretch } = this.points;
    const columns = Math.ceil(stretch * across) + 1;
    for (let k = 0; k < size; k++) {
      const key = Math.floor(y[k] * across) * columns + Math.floor(x[k] * across);
      if (!at.has(key)) at.set(key, k);
    }
    return { side: 1 / across, columns, at };
  }
}

/** Small images, a bounded number of them, fetched a few at a time; `loaded` is called when one has come. */
export class Images {
  constructor(loaded) {
    this.loaded = loaded;
    this.all = new Map();
    this.busy = 0;
    this.waiting = [];
  }

  /** The image of an item, of so many pixels, if it is here; otherwise it is asked for, and the smallest does meanwhile. */
  get(id, width) {
    const source = (pixels) => `${address(`thumbnails/${id}`)}?width=${pixels}`;
    if (!this.all.has(source(width)) && !this.waiting.includes(source(width))) this.waiting.push(source(width));
    return this.loadedOf(source(width)) ?? this.loadedOf(source(SMALLEST));
  }

  loadedOf(source) {
    const found = this.all.get(source);
    if (!found) return null;
    this.all.delete(source);
    this.all.set(source, found);
    return found.complete && found.naturalWidth ? found : null;
  }

  /** What was asked for in this drawing, and no longer what earlier ones wanted. */
  begin() {
    this.waiting = [];
  }

  next() {
    while (this.busy < FETCHED && this.waiting.length) this.fetch(this.waiting.shift());
    for (const source of this.all.keys()) {
      if (this.all.size <= KEPT) break;
      this.all.delete(source);
    }
  }

  fetch(source) {
    const image = new Image();
    this.busy++;
    const done = () => {
      this.busy--;
      this.loaded();
      this.next();
    };
    image.addEventListener("load", done);
    image.addEventListener("error", done);
    image.decoding = "async";
    image.src = source;
    this.all.set(source, image);
  }
}
