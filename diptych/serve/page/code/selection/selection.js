// Which pictures are selected; they stay selected from one search to the next.

export class Selection {
  constructor() {
    this.items = new Map();
    this.listeners = new Set();
    /** Where a range begins. @type {number|null} */
    this.from = null;
    /** Begun with a finger: then a tap selects, as long as something is selected. */
    this.touch = false;
  }

  get size() {
    return this.items.size;
  }

  get ids() {
    return [...this.items.keys()];
  }

  has(id) {
    return this.items.has(id);
  }

  toggle(item, index = null) {
    if (!item) return;
    this.from = index;
    if (!this.items.delete(item.id)) this.items.set(item.id, item);
    this.changed();
  }

  add(items) {
    for (const item of items) this.items.set(item.id, item);
    this.changed();
  }

  replace(items) {
    this.items.clear();
    this.add(items);
  }

  clear() {
    this.items.clear();
    this.from = null;
    this.changed();
  }

  changed() {
    if (!this.size) this.touch = false;
    for (const listener of this.listeners) listener(this);
  }

  listen(listener) {
    this.listeners.add(listener);
  }
}
