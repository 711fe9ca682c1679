// A long list, page by page: pages are asked for when they come near the view, and given up when it has left them.

import { cancelled } from "../api.js";

export const PAGE = 100;
const KEPT = 120;

export class Source {
  /**
   * @param {(offset: number, limit: number, cursor: string|null, signal: AbortSignal) =>
   *   Promise<{items: any[], total: number, cursor?: string|null}>} load
   */
  constructor(load) {
    this.load = load;
    /** @type {number|null} how many there are; null before the first answer */
    this.total = null;
    this.pages = new Map();
    this.running = new Map();
    this.places = new Map();
    this.cursor = null;
    this.answer = null;
    /** Called with the number of a page that came, or null with an error. */
    this.came = (_page, _error) => {};
    this.retry = 0;
  }

  item(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE] ?? null;
  }

  /** Where an item stands, if its page has been seen; otherwise null. */
  indexOf(id) {
    return this.places.get(id) ?? null;
  }

  /** All items that are here, in order. */
  *loaded() {
    for (const page of [...this.pages.keys()].sort((a, b) => a - b)) yield* this.pages.get(page);
  }

  /** The pages from `first` to `last` are near the view; `middle` is in it. */
  want(first, last, middle) {
    for (const [page, controller] of this.running) {
      if (page < first || page > last) {
        controller.abort();
        this.running.delete(page);
      }
    }
    const missing = [];
    for (let page = first; page <= last; page++) if (!this.pages.has(page) && !this.running.has(page)) missing.push(page);
    missing.sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle));
    for (const page of missing) this.fetch(page);
    this.forget(middle);
  }

  /** One page, whether or not it is near. */
  async page(page) {
    if (!this.pages.has(page)) await this.fetch(page);
    return this.pages.get(page) ?? [];
  }

  async fetch(page) {
    const controller = new AbortController();
    this.running.set(page, controller);
    try {
      const answer = await this.load(page * PAGE, PAGE, this.cursor, controller.signal);
      this.take(page, answer);
    } catch (error) {
      if (cancelled(error)) return;
      this.came(null, error);
      clearTimeout(this.retry);
      if (this.total !== null) this.retry = setTimeout(() => this.came(null, null), 3000);
    } finally {
      if (this.running.get(page) === controller) this.running.delete(page);
    }
  }

  take(page, answer) {
    this.cursor = answer.cursor ?? this.cursor;
    this.answer ??= answer;
    this.total = answer.total;
    this.pages.set(page, answer.items);
    answer.items.forEach((item, k) => this.places.set(item.id, page * PAGE + k));
    this.came(page, null);
  }

  /** Pages far from the view are dropped: what the grid has drawn of them are shapes alone. */
  forget(middle) {
    if (this.pages.size <= KEPT) return;
    const far = [...this.pages.keys()].sort((a, b) => Math.abs(b - middle) - Math.abs(a - middle));
    for (const page of far.slice(0, this.pages.size - KEPT)) if (page !== 0) this.pages.delete(page);
  }

  stop() {
    for (const controller of this.running.values()) controller.abort();
    this.running.clear();
    clearTimeout(this.retry);
  }
}

/** A list that is whole from the start. */
export function listed(items) {
  return new Source(async (offset, limit) => ({ items: items.slice(offset, offset + limit), total: items.length }));
}
