// The picture itself: as large as fits, a coarse image first, then a fine one; over it the heat map, or a film's player.

import { cancelled, request, thumbnail, withParameters } from "../api.js";
import { h, say } from "../dom.js";
import { words } from "./words.js";

const LARGEST = 3;

export class Stage {
  /** @param {(error: any) => void} failed @param {(id: number) => void} open another item */
  constructor(failed, open) {
    this.failed = failed;
    this.open = open;
    this.wait = h("div.wait", { role: "status", hidden: true });
    this.element = h("div.stage", { tabindex: "-1", autofocus: true }, this.wait);
    this.picture = null;
    this.item = null;
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.heating = new AbortController();
    new ResizeObserver(() => this.fit()).observe(this.element);
    this.pan();
  }

  /** @param {any} item @param {{original: boolean}} may */
  show(item, may) {
    if (this.item?.id === item.id && this.picture) return;
    this.clear();
    this.item = item;
    this.isText = item.modality === "text";
    this.picture = this.isText ? words(item, this.open) : h("div.picture", {}, this.images(item));
    if (item.kind === "video" && !this.isText) this.play(item, may.original && item.original);
    this.element.prepend(this.picture);
    this.fit();
  }

  images(item) {
    if (!item.thumbnail) return [h("p.unshown", {}, h("strong", { dir: "auto" }, item.name), "Pictures of this library are not shown here.")];
    const coarse = h("img", { alt: item.caption || item.name, src: thumbnail(item, 320) });
    const fine = h("img.fine", { alt: "", decoding: "async", src: thumbnail(item, this.fineWidth()) });
    fine.addEventListener("load", () => fine.classList.add("ready"));
    return [coarse, fine];
  }

  fineWidth() {
    return Math.max(innerWidth, innerHeight) * Math.min(2, devicePixelRatio) > 1400 ? 2560 : 1280;
  }

  /** A film from the frame that was found, or why it does not play; the frame is there in any case. */
  play(item, original) {
    if (!original) return this.remark("The film itself plays where the server is started with --originals.");
    const video = h("video", { controls: true, playsinline: true, preload: "metadata", "aria-label": item.name, src: `${original}#t=${item.at_s ?? 0}` });
    video.addEventListener("error", () => {
      video.remove();
      if (this.item === item) this.remark("This browser cannot play the film. ", h("a", { href: original, download: item.name }, "Save it"));
    }, { once: true });
    this.picture.append(video);
  }

  remark(...what) {
    this.element.querySelector(".remark")?.remove();
    if (what.length) this.element.append(h("p.remark", {}, ...what));
  }

  /** As large as the stage allows, and no more than twice its own size. */
  fit() {
    if (!this.picture || this.isText) return;
    const { clientWidth: width, clientHeight: height } = this.element;
    const margin = width > 720 ? 16 : 0;
    const own = { width: this.item.width || 800, height: this.item.height || 600 };
    const scale = Math.min(width / own.width, (height - margin) / own.height, 2);
    const [w, t] = [own.width * scale, own.height * scale];
    Object.assign(this.picture.style, { width: `${w}px`, height: `${t}px`, left: `${(width - w) / 2}px`, top: `${(height - margin - t) / 2}px` });
    this.unzoom();
  }

  unzoom() {
    this.zoom = { scale: 1, x: 0, y: 0 };
    if (this.picture) this.picture.style.transform = "";
  }

  /** Zoom about a point of the stage, by default its middle. */
  zoomBy(factor, at = { x: this.element.clientWidth / 2, y: this.element.clientHeight / 2 }) {
    if (!this.picture || this.isText) return;
    const scale = Math.min(LARGEST * 2, Math.max(1, this.zoom.scale * factor));
    if (scale === 1) return this.unzoom();
    const real = scale / this.zoom.scale;
    const left = at.x - this.picture.offsetLeft;
    const top = at.y - this.picture.offsetTop;
    this.move(scale, left - (left - this.zoom.x) * real, top - (top - this.zoom.y) * real);
  }

  move(scale, x, y) {
    this.zoom = { scale, x, y };
    this.picture.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  }

  pan() {
    let from = null;
    const { element } = this;
    const point = (event) => {
      const box = element.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    element.addEventListener("wheel", (event) => {
      if (this.isText) return;
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * 0.002), point(event));
    }, { passive: false });
    element.addEventListener("dblclick", (event) => !this.isText && (this.zoom.scale > 1 ? this.unzoom() : this.zoomBy(LARGEST, point(event))));
    element.addEventListener("pointerdown", (event) => {
      if (this.zoom.scale === 1 || event.target.closest("button, video")) return;
      from = { x: event.clientX - this.zoom.x, y: event.clientY - this.zoom.y };
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => from && this.move(this.zoom.scale, event.clientX - from.x, event.clientY - from.y));
    for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, () => (from = null));
  }

  /** Lay the heat map of a phrase over the picture. */
  async locate(phrase) {
    this.clearPlaces();
    const { item } = this;
    this.heating = new AbortController();
    this.note(`Looking for “${phrase}” …`);
    try {
      const path = withParameters(`items/${item.id}/heat`, { phrase });
      const blob = await (await request(path, { accept: "image/png", signal: this.heating.signal })).blob();
      if (this.item !== item || !this.picture) return;
      const source = URL.createObjectURL(blob);
      const image = h("img.heat", { alt: `Where “${phrase}” is`, src: source });
      image.addEventListener("load", () => (URL.revokeObjectURL(source), requestAnimationFrame(() => image.classList.add("ready"))));
      this.picture.append(image);
      say(`The heat map of ${phrase} is shown.`);
      this.note("");
    } catch (error) {
      if (cancelled(error)) return;
      this.note("");
      this.failed(error);
    }
  }

  clearPlaces() {
    this.heating.abort();
    this.note("");
    for (const each of this.element.querySelectorAll(".heat")) each.remove();
  }

  note(text) {
    this.wait.textContent = text;
    this.wait.hidden = !text;
  }

  clear() {
    this.clearPlaces();
    this.remark();
    this.picture?.querySelector("video")?.pause();
    this.picture?.remove();
    this.picture = null;
    this.item = null;
    this.unzoom();
  }
}

