// The grid of a long list. Only rows near the view are in the document; the page itself scrolls.

import { h } from "../dom.js";
import { Blocks } from "./blocks.js";
import { blank, cell, dropPictures, fetchPictures } from "./cells.js";
import { targetHeight } from "./layout.js";
import { PAGE } from "./source.js";

const OVER = 700;
const FAST = 3.2;

export class Grid {
  /**
   * @param {{selection: import("../selection/selection.js").Selection, open: (index: number) => void, failed: (error: any) => void,
   *   settled: (grid: Grid) => void}} options
   */
  constructor(options) {
    this.options = options;
    this.element = h("div.grid", { role: "listbox", "aria-multiselectable": "true", "aria-label": "Pictures", tabindex: "-1" });
    this.blocks = new Blocks();
    this.rows = new Map();
    this.source = null;
    this.active = 0;
    /** @type {number|null} */
    this.column = null;
    this.awaited = null;
    this.top = 0;
    this.frame = 0;
    this.last = { y: 0, time: 0, speed: 0 };
    this.observed = new ResizeObserver(() => this.measure());
    this.observed.observe(this.element);
    this.observed.observe(/** @type {Element} */ (document.getElementById("top")));
    window.addEventListener("scroll", () => this.scrolled(), { passive: true });
    options.selection.listen(() => this.marked());
  }

  get shown() {
    return this.element.isConnected && this.source !== null;
  }

  /** Show a list, from an anchor or from its beginning. */
  show(source, anchor = null) {
    if (this.source && this.source !== source) this.source.stop();
    this.clear();
    this.source = source;
    this.active = anchor?.index ?? 0;
    this.pending = anchor;
    this.blocks.reset(source.total ?? 0);
    for (const [page, items] of source.pages) this.blocks.learn(page, items);
    source.came = (page, error) => this.came(page, error);
    this.measure(anchor);
    if (source.total === null) source.want(0, 0, 0);
  }

  clear() {
    for (const row of this.rows.values()) this.discard(row);
    this.rows.clear();
  }

  came(page, error) {
    if (error) this.options.failed(error);
    if (page === null) return this.draw();
    const anchor = this.pending ?? this.anchor();
    this.blocks.retotal(this.source.total);
    this.blocks.learn(page, this.source.pages.get(page));
    const last = this.blocks.number - 1;
    this.dropRows((key) => Math.floor(key / PAGE) === page || Math.floor(key / PAGE) >= last);
    this.stand(anchor);
    if (this.pending && this.blocks.shapes.has(Math.floor(this.pending.index / PAGE))) this.pending = null;
    this.options.settled(this);
  }

  /** The width, or what is above, has changed. */
  measure(anchor = this.pending ?? this.anchor()) {
    if (!this.shown) return;
    const width = this.element.clientWidth;
    if (!width) return;
    this.top = this.element.getBoundingClientRect().top + scrollY;
    if (width !== this.blocks.size.width) {
      this.blocks.resize({ width, target: targetHeight(width), gap: 4 });
      this.clear();
    }
    this.stand(anchor);
  }

  /** What is at the top of the view: an item, and how far it is above the view's edge. */
  anchor() {
    if (!this.shown || !this.blocks.number || !this.blocks.size.width) return null;
    const y = scrollY - this.top + this.header;
    if (scrollY < 8) return { index: 0, delta: null };
    for (const { block, row, top } of this.blocks.rows(Math.max(0, y), Math.max(0, y) + 4000)) {
      return { index: block * PAGE + row.from, delta: y - top };
    }
    return null;
  }

  get header() {
    return /** @type {HTMLElement} */ (document.getElementById("top")).offsetHeight;
  }

  /** Give the list its height, keep the anchor where it was, and draw. */
  stand(anchor) {
    this.element.style.height = `${this.blocks.height}px`;
    if (anchor && anchor.index < this.blocks.total) {
      const y = anchor.delta === null ? 0 : this.blocks.place(anchor.index).top + anchor.delta + this.top - this.header;
      if (Math.abs(y - scrollY) >= 1) this.jump(y);
    }
    this.draw();
  }

  /** A jump is no fast scrolling: what it leads to is shown at once. */
  jump(y) {
    scrollTo({ top: y, behavior: "instant" });
    this.last = { y: scrollY, time: performance.now(), speed: 0 };
  }

  scrolled() {
    if (!this.shown || this.frame) return;
    if (Math.abs(scrollY - this.last.y) > 2) this.pending = null;
    this.element.classList.add("moving");
    this.frame = requestAnimationFrame((time) => {
      this.frame = 0;
      const passed = Math.max(1, time - this.last.time);
      this.last = { y: scrollY, time, speed: passed > 200 ? 0 : Math.abs(scrollY - this.last.y) / passed };
      this.draw();
    });
  }

  draw() {
    if (!this.shown) return;
    const y = scrollY - this.top;
    const fast = this.last.speed > FAST;
    const needed = new Set();
    for (const { block, row, top } of this.blocks.rows(y - OVER, y + innerHeight + OVER)) {
      const key = block * PAGE + row.from;
      needed.add(key);
      const drawn = this.rows.get(key) ?? this.add(key, block, row);
      if (drawn.top !== top) {
        drawn.top = top;
        drawn.element.style.transform = `translateY(${top}px)`;
      }
      if (!fast) fetchPictures(drawn.element);
    }
    this.dropRows((key, row) => !needed.has(key) && !row.element.contains(document.activeElement));
    this.rove();
    if (this.awaited !== null && this.cellOf(this.awaited)) this.focus(this.awaited);
    this.ask(y, fast);
  }

  add(key, block, row) {
    const element = h("div.row", { role: "none", style: { height: `${row.height}px` } });
    for (let k = row.from; k < row.to; k++) {
      const index = block * PAGE + k;
      const item = this.source.item(index);
      const place = { left: row.lefts[k - row.from], width: row.widths[k - row.from], height: row.height };
      const selected = item !== null && this.options.selection.has(item.id);
      element.append(item ? cell(item, { ...place, index, total: this.blocks.total, selected }) : blank(place.left, place.width));
    }
    const drawn = { element, top: NaN, from: key, to: block * PAGE + row.to };
    this.rows.set(key, drawn);
    this.element.append(element);
    return drawn;
  }

  dropRows(which) {
    for (const [key, row] of this.rows) {
      if (!which(key, row)) continue;
      this.discard(row);
      this.rows.delete(key);
    }
  }

  discard(row) {
    dropPictures(row.element);
    row.element.remove();
  }

  /** Ask for what is near; while the list flies by, wait until it slows down. */
  ask(y, fast) {
    clearTimeout(this.later);
    if (fast) {
      this.later = setTimeout(() => ((this.last.speed = 0), this.draw()), 90);
      return;
    }
    if (!this.blocks.number) return;
    const block = (height) => this.blocks.blockAt(Math.max(0, height));
    this.source.want(block(y - innerHeight), block(y + 2 * innerHeight), block(y + innerHeight / 2));
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => {
      this.element.classList.remove("moving");
      this.options.settled(this);
    }, 250);
  }

  /** One picture at a time is reached by Tab. */
  rove() {
    const here = this.cellOf(this.active) ?? this.element.querySelector(".cell[role]");
    for (const other of this.element.querySelectorAll('.cell[tabindex="0"]')) if (other !== here) other.tabIndex = -1;
    if (here) here.tabIndex = 0;
  }

  /** @returns {HTMLElement|null} */
  cellOf(index) {
    return this.element.querySelector(`.cell[data-index="${index}"]`);
  }

  /** Bring an item into the view. */
  reveal(index) {
    if (index >= this.blocks.total) return;
    const { top, row } = this.blocks.place(index);
    const low = scrollY + this.header + 8 - this.top;
    const high = scrollY + innerHeight - 16 - this.top;
    if (top < low) this.jump(top + this.top - this.header - 12);
    else if (top + row.height > high) this.jump(top + row.height + this.top - innerHeight + 24);
    this.draw();
  }

  focus(index) {
    this.active = Math.max(0, Math.min(index, this.blocks.total - 1));
    this.awaited = null;
    this.reveal(this.active);
    this.rove();
    const cell = this.cellOf(this.active);
    /** Its page may be on the way: then it gets the focus when it comes. @type {number|null} */
    this.awaited = cell ? null : this.active;
    cell?.focus({ preventScroll: true });
  }

  /** The picture above or below, where the eye would look for it: `column` is where it began, so that up undoes down. */
  beside(index, step) {
    const { block, row, top, k } = this.blocks.place(index);
    const middle = (this.column ??= row.lefts[k] + row.widths[k] / 2);
    const y = step > 0 ? top + row.height + this.blocks.size.gap + 1 : top - this.blocks.size.gap - 1;
    if (y < 0 || y > this.blocks.height) return index;
    for (const other of this.blocks.rows(y, y)) {
      if (other.block === block && other.row === row) continue;
      const gaps = other.row.lefts.map((left, n) => Math.abs(left + other.row.widths[n] / 2 - middle));
      return other.block * PAGE + other.row.from + gaps.indexOf(Math.min(...gaps));
    }
    return index;
  }

  marked() {
    const { selection } = this.options;
    this.element.classList.toggle("selecting", selection.size > 0);
    for (const each of this.element.querySelectorAll(".cell[role]")) {
      each.setAttribute("aria-selected", String(selection.has(Number(each.dataset.id))));
    }
  }
}
