// The map of the library: likeness is nearness. Points from afar, pictures from near.

import { cancelled, computed, get, request, thumbnail } from "../api.js";
import { button, count, h, icon, say } from "../dom.js";
import { named } from "../grid/cells.js";
import { go, state } from "../state.js";
import { Camera } from "./camera.js";
import { steer } from "./map_hands.js";
import { Chosen, Images, nearest, readPoints, stretch } from "./points.js";
import { Regions } from "./regions.js";

const PACKED = "application/octet-stream";
const UNSETTLED = ["scanning", "indexing", "building"];
const SIDE = 92;
const LARGEST = 200; // pixels of a picture where few share the view
const AFAR = 1.8; // pictures are smaller below this zoom

export class LibraryMap {
  constructor() {
    this.list = null;
    this.camera = new Camera();
    this.points = null;
    this.images = new Images(() => this.redraw());
    this.regions = new Regions((region) => this.visit(region));
    this.canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": "Map of the library. Arrow keys move, plus and minus zoom, Enter opens the picture in the middle." });
    this.peek = h("div.peek", { hidden: true });
    this.hint = h("div.hint", {}, matchMedia("(hover: none)").matches ? "Pinch to zoom, drag to move" : "Scroll to zoom, drag to move");
    const zoom = h("div.zoom", {}, button("more", "Closer", () => this.zoomBy(1.6), { kind: "plain" }), button("less", "Farther", () => this.zoomBy(1 / 1.6), { kind: "plain" }),
      button("fit", "The whole map", () => this.fit(), { kind: "plain" }));
    this.progress = h("div.empty", { role: "status", hidden: true });
    this.box = h("div.map", {}, this.canvas, this.hint, zoom, this.peek);
    this.title = h("h1", {}, "Map");
    this.element = h("section", { "aria-label": "Map" }, h("div.view-head", {}, this.title, this.regions.element), this.progress, this.box);
    steer(this);
    new ResizeObserver(() => this.resize()).observe(this.box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    new MutationObserver(() => this.redraw()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  show(now, how) {
    if (how !== "replace") this.camera.text = now.place;
    if (!this.points) this.load();
    this.resize();
  }

  hide() {
    this.peek.hidden = true;
    this.running?.abort();
  }

  async load() {
    this.running?.abort();
    this.running = new AbortController();
    this.box.hidden = true;
    const { signal } = this.running;
    try {
      const [{ map_methods: methods, pictures: shown }, { state: index }] = await Promise.all([get("server", {}, signal), get("index", {}, signal)]);
      this.shown = shown;
      // The finer map may take minutes: the plain one is there meanwhile, and alone while pictures are still coming.
      const [finest, plain] = [methods[0], methods.at(-1)];
      const settled = !UNSETTLED.includes(index);
      const waits = finest !== plain && (!settled || (await request(`map?method=${finest}`, { accept: PACKED, signal })).status === 202);
      await this.take(waits ? plain : finest, signal, (done, total) => this.wait(done, total));
      if (waits && settled) {
        const finer = h("span.soft.small.numbers", {}, " · a finer one is being drawn");
        this.title.append(finer);
        await this.take(finest, signal, (done, total) => total && (finer.textContent = ` · a finer one is being drawn, ${Math.round((100 * done) / total)} %`));
      }
    } catch (error) {
      if (cancelled(error)) return;
      if (this.points) return this.head(); // the finer map did not come about
      this.tell(icon("caution"), h("h2", {}, "There is no map"), h("p", {}, error.message));
    }
  }

  /** The map by one method, and the names of its regions. */
  async take(method, signal, progress) {
    const response = await computed(`map?method=${method}`, { accept: PACKED, signal, progress });
    const points = readPoints(await response.arrayBuffer());
    const before = this.points;
    this.points = points;
    this.chosen = new Chosen(points);
    this.progress.hidden = true;
    this.box.hidden = false;
    this.head();
    this.regions.show([]);
    this.resize();
    if (!before) say(`The map has ${count(points.size, "picture")}.`);
    const answer = await computed(`map/regions?method=${method}`, { signal, progress: () => {} });
    this.regions.show((await answer.json()).regions);
    this.redraw();
  }

  head() {
    this.title.replaceChildren("Map ", h("span.soft.small.numbers", { style: { "font-weight": "400" } }, count(this.points.size, "picture")));
  }

  /** Go to a region. */
  visit({ x, y, is_coarse: coarse }) {
    Object.assign(this.camera, { x: x * this.camera.stretch, y, zoom: coarse ? 4 : 8 });
    this.camera.bound();
    this.moved();
    this.canvas.focus({ preventScroll: true });
  }

  wait(done, total) {
    this.tell(h("h2", {}, "Drawing the map"), total > 0 && h("progress", { max: total, value: done, "aria-label": "Drawing the map" }));
  }

  tell(...what) {
    this.progress.hidden = false;
    this.progress.replaceChildren(...what.filter(Boolean));
  }

  /** The index has changed. */
  stale() {
    this.points = null;
    if (this.element.isConnected) this.load();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (!width || !height) return;
    const ratio = Math.min(2, devicePixelRatio);
    this.camera.resize({ width, height });
    if (this.points && stretch(this.points, this.camera.stretch)) this.chosen = new Chosen(this.points);
    this.ratio = ratio;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    this.redraw();
  }

  redraw() {
    if (this.frame || !this.points) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (this.element.isConnected) this.draw();
    });
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.dots(context, style.getPropertyValue("color"));
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    this.images.begin();
    this.pictures(context);
    this.images.next();
    this.regions.draw(context, this.camera, style);
    if (this.canvas.matches(":focus-visible")) this.cross(context, style.getPropertyValue("color"));
  }

  /** All points that are seen, written as pixels: a hundred thousand in a few milliseconds. */
  dots(context, colour) {
    const { width, height } = this.canvas;
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const [red, green, blue] = rgb(colour);
    const ink = (this.camera.zoom > 3 ? 0xa0000000 : 0xb0000000) | (blue << 16) | (green << 8) | red;
    const dot = Math.max(2, Math.round((this.camera.zoom > 3 ? 3 : 2) * this.ratio * (this.points.size < 5000 ? 1.5 : 1) * (this.shown ? 1 : 2)));
    const scale = this.camera.scale * this.ratio;
    const left = width / 2 - this.camera.x * scale - dot / 2;
    const top = height / 2 - this.camera.y * scale - dot / 2;
    for (let k = 0; k < this.points.size; k++) {
      const x = Math.round(this.points.x[k] * scale + left);
      const y = Math.round(this.points.y[k] * scale + top);
      if (x < 0 || y < 0 || x + dot > width || y + dot > height) continue;
      for (let row = y; row < y + dot; row++) pixels.fill(ink, row * width + x, row * width + x + dot);
    }
    context.putImageData(image, 0, 0);
  }

  /** Pixels of a picture: more where the zoom leaves few of them in sight. It does not depend on where one looks. */
  largest() {
    const { width, height } = this.camera.size;
    const seen = this.points.size / this.camera.zoom ** 2;
    return Math.min(LARGEST, Math.max(SIDE, Math.sqrt((width * height) / seen) / 2));
  }

  pictures(context) {
    const largest = this.largest();
    const { side, columns, at } = this.chosen.level(this.camera.scale, largest);
    const low = this.camera.toWorld(-largest, -largest);
    const high = this.camera.toWorld(this.camera.size.width + largest, this.camera.size.height + largest);
    const across = Math.round(1 / side);
    const span = (from, to, most) => [Math.max(0, Math.floor(from / side)), Math.min(most, Math.floor(to / side))];
    const [left, right] = span(low.x, high.x, columns - 1);
    const [top, bottom] = span(low.y, high.y, across);
    const seen = [];
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) {
        const k = at.get(row * columns + column);
        if (k !== undefined) seen.push(k);
      }
    }
    const away = (k) => (this.points.x[k] - this.camera.x) ** 2 + (this.points.y[k] - this.camera.y) ** 2;
    this.drawn = [];
    const afar = this.camera.zoom < AFAR && this.points.size >= 200;
    const most = Math.min(largest, side * this.camera.scale) * (afar ? 0.5 : 0.84);
    if (this.shown) for (const k of seen.sort((a, b) => away(a) - away(b))) this.picture(context, k, most);
  }

  picture(context, k, most) {
    const image = this.images.get(this.points.ids[k], most * this.ratio > 200 ? 320 : 160);
    if (!image) return;
    const centre = this.camera.toScreen(this.points.x[k], this.points.y[k]);
    const scale = most / Math.max(image.naturalWidth, image.naturalHeight);
    const box = { k, width: image.naturalWidth * scale, height: image.naturalHeight * scale, x: 0, y: 0 };
    box.x = centre.x - box.width / 2;
    box.y = centre.y - box.height / 2;
    context.save();
    context.beginPath();
    context.roundRect(box.x, box.y, box.width, box.height, 4);
    context.clip();
    context.drawImage(image, box.x, box.y, box.width, box.height);
    context.restore();
    this.drawn.push(box);
  }

  cross(context, colour) {
    const { width, height } = this.camera.size;
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.beginPath();
    context.arc(width / 2, height / 2, 14, 0, 2 * Math.PI);
    context.moveTo(width / 2, height / 2 - 20);
    context.lineTo(width / 2, height / 2 + 20);
    context.moveTo(width / 2 - 20, height / 2);
    context.lineTo(width / 2 + 20, height / 2);
    context.stroke();
  }

  /** The point under a place of the screen, or -1. */
  under(x, y, within = 12) {
    if (!this.points) return -1;
    const box = (this.drawn ?? []).findLast((each) => x >= each.x && x <= each.x + each.width && y >= each.y && y <= each.y + each.height);
    return box ? box.k : nearest(this.points, this.camera, x, y, within);
  }

  /** A larger picture beside the pointer. */
  point(x, y) {
    const k = this.under(x, y);
    this.canvas.style.cursor = k < 0 ? "" : "pointer";
    this.peek.hidden = k < 0;
    if (k < 0) return;
    const id = this.points.ids[k];
    if (this.peek.dataset.id !== String(id)) {
      this.peek.dataset.id = String(id);
      if (this.shown) this.peek.replaceChildren(h("img", { alt: "", src: thumbnail({ thumbnail: new URL(`v1/thumbnails/${id}`, document.baseURI).href }, 320) }));
      else this.name(id);
    }
    const { width, height } = this.camera.size;
    this.peek.style.left = `${x + 190 > width ? x - 184 : x + 16}px`;
    this.peek.style.top = `${y + 150 > height ? y - 144 : y + 16}px`;
  }

  /** The name of a picture that is not shown. */
  async name(id) {
    this.peek.replaceChildren();
    const item = await get(`items/${id}`).catch(() => null);
    if (item && this.peek.dataset.id === String(id)) this.peek.replaceChildren(h("p.unshown", {}, item.name));
  }

  open(k) {
    if (k >= 0) go({ item: this.points.ids[k] }, { remember: { opened: true } });
  }

  zoomBy(factor, x, y) {
    this.camera.zoomBy(factor, x, y);
    this.moved();
  }

  fit() {
    this.camera.reset();
    this.moved();
  }

  moved() {
    this.peek.hidden = true;
    this.hint.hidden = true;
    this.redraw();
    clearTimeout(this.noting);
    this.noting = setTimeout(() => {
      if (state().view === "map" && state().item === null) go({ place: this.camera.text }, { replace: true });
    }, 250);
  }

  /** Say what lies in the middle, for who moves by keys. */
  async describe() {
    const k = this.middle();
    if (k < 0) return say("Nothing here.");
    try {
      say(named(await get(`items/${this.points.ids[k]}`)));
    } catch {
      say("A picture.");
    }
  }

  middle() {
    const { width, height } = this.camera.size;
    return this.under(width / 2, height / 2, Math.min(width, height) / 2);
  }

  back() {
    this.canvas.focus({ preventScroll: true });
  }
}

function rgb(colour) {
  const numbers = colour.match(/[\d.]+/g)?.map(Number) ?? [80, 80, 80];
  return numbers.map((each) => Math.round(each));
}
