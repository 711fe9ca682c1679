// Which part of the map is seen: a centre in the map's unit square, and a zoom of 1 for the whole. A wide or tall view stretches the
// square, as likeness has no direction: `stretch` is how wide it is.

const CLOSEST = 400;
const NARROWEST = 0.6;
const WIDEST = 1.9;

export class Camera {
  constructor() {
    this.size = { width: 1, height: 1 };
    this.reset();
  }

  reset() {
    this.x = this.stretch / 2;
    this.y = 0.5;
    this.zoom = 1;
  }

  get stretch() {
    return Math.min(WIDEST, Math.max(NARROWEST, this.size.width / this.size.height));
  }

  /** The view has another size; what is in its middle stays there. */
  resize(size) {
    const share = this.x / this.stretch;
    this.size = size;
    this.x = share * this.stretch;
  }

  /** Pixels for the height of the map. */
  get scale() {
    return this.zoom * Math.min(this.size.width / this.stretch, this.size.height) * 0.94;
  }

  get text() {
    return this.zoom === 1 ? "" : [(this.x / this.stretch).toFixed(4), this.y.toFixed(4), this.zoom.toFixed(2)].join(",");
  }

  set text(text) {
    const [x, y, zoom] = text.split(",").map(Number);
    this.reset();
    if (![x, y, zoom].every(Number.isFinite)) return;
    Object.assign(this, { x: x * this.stretch, y, zoom });
    this.bound();
  }

  toScreen(x, y) {
    return { x: (x - this.x) * this.scale + this.size.width / 2, y: (y - this.y) * this.scale + this.size.height / 2 };
  }

  toWorld(x, y) {
    return { x: (x - this.size.width / 2) / this.scale + this.x, y: (y - this.size.height / 2) / this.scale + this.y };
  }

  panBy(x, y) {
    this.x -= x / this.scale;
    this.y -= y / this.scale;
    this.bound();
  }

  zoomBy(factor, x = this.size.width / 2, y = this.size.height / 2) {
    const before = this.toWorld(x, y);
    this.zoom *= factor;
    this.bound();
    const after = this.toWorld(x, y);
    this.x += before.x - after.x;
    this.y += before.y - after.y;
    this.bound();
  }

  bound() {
    this.zoom = Math.min(CLOSEST, Math.max(1, this.zoom));
    if (this.zoom === 1) Object.assign(this, { x: this.stretch / 2, y: 0.5 });
    this.x = Math.min(this.stretch, Math.max(0, this.x));
    this.y = Math.min(1, Math.max(0, this.y));
  }
}
