// The large view: a dialog over the page. Its neighbours are those of the list below it.

import { cancelled, get, thumbnail } from "../api.js";
import { button, h, say, toast } from "../dom.js";
import { clock, named } from "../grid/cells.js";
import { PAGE } from "../grid/source.js";
import { CLOSED, go, inFolder, remembered, state, termsOf } from "../state.js";
import { details } from "./details.js";
import { Places } from "./places.js";
import { Stage } from "./stage.js";

const KEPT = "diptych.details";

/** The words that a heat map and boxes are of: what was asked for last, or the query. */
export function phraseOf(now) {
  const text = termsOf(now).find((term) => "text" in term && term.weight > 0);
  return now.phrase || (text && "text" in text ? text.text : "");
}

export class Viewer {
  /**
   * @param {{list: () => import("../grid/source.js").Source|null, back: (id: number, index: number|null) => void, originals: () => boolean,
   *   select: (item: any) => void, selected: (id: number) => boolean}} options
   */
  constructor(options) {
    this.options = options;
    this.item = null;
    this.index = null;
    /** What the heat map and the boxes that are shown are of. */
    this.located = { heat: "", boxes: "" };
    this.reading = new AbortController();
    const failed = (error) => (toast(error.message), go({ heat: false, boxes: false }, { replace: true }));
    this.stage = new Stage(failed, (id) => this.openOther(id));
    this.places = new Places(this.stage, failed);
    this.build();
  }

  build() {
    const text = { text: true };
    this.name = h("h2.name", { id: "viewer-name", dir: "auto" });
    this.ticked = button("check", "Select", () => this.select(), { "aria-pressed": "false" });
    this.framed = button("boxes", "Boxes", () => this.toggle("boxes"), { ...text, "aria-pressed": "false", "aria-keyshortcuts": "b" });
    this.hot = button("heat", "Heat map", () => this.toggle("heat"), { ...text, "aria-pressed": "false", "aria-keyshortcuts": "h" });
    this.known = button("info", "Details", () => this.toggleDetails(), { "aria-pressed": "false", "aria-keyshortcuts": "i" });
    this.before = button("left", "Previous picture", () => this.step(-1), { kind: "step.back" });
    this.after = button("right", "Next picture", () => this.step(1), { kind: "step.on" });
    this.panel = h("aside.details", { "aria-label": "Details", tabindex: "-1" });
    const over = h("div.over", {}, button("left", "Back", () => this.leave()), this.name,
      button("like", "More like this", () => this.search(1), text), button("unlike", "Less like this", () => this.search(-1), text),
      this.hot, this.framed, this.ticked, this.known, button("close", "Close", () => this.leave()));
    this.stage.element.append(this.before, this.after);
    this.box = h("dialog.viewer", { "aria-labelledby": "viewer-name" }, h("div.inside", {}, over, this.stage.element, this.panel));
    this.box.addEventListener("cancel", (event) => (event.preventDefault(), this.leave()));
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.swipe();
    document.body.append(this.box);
    this.setDetails(this.wanted());
  }

  get open() {
    return this.box.open;
  }

  /** Follow the state: open, change, or close. */
  async show(now) {
    if (now.item === null) return this.close();
    const list = this.options.list();
    this.index = list?.indexOf(now.item) ?? remembered().index ?? null;
    const here = this.index === null ? null : list?.item(this.index);
    if (!this.box.open) this.box.showModal();
    if (here?.id === now.item) this.present(here);
    await this.read(now.item);
    this.warm();
  }

  /** The list has grown: a URL that was shared learns its neighbours. */
  relocate() {
    const index = this.item ? this.options.list()?.indexOf(this.item.id) ?? null : null;
    if (index === null || index === this.index) return;
    this.index = index;
    this.neighbours();
    this.warm();
  }

  neighbours() {
    this.before.disabled = this.index === null || this.index === 0;
    this.after.disabled = this.index === null || this.index + 1 >= (this.options.list()?.total ?? 0);
  }

  /** All that is known of the item; the list knows most of it already. */
  async read(id) {
    this.reading.abort();
    this.reading = new AbortController();
    try {
      const full = await get(`items/${id}`, {}, this.reading.signal);
      this.present({ ...(this.item?.id === id ? this.item : {}), ...full });
    } catch (error) {
      if (cancelled(error)) return;
      toast(error.message);
      if (this.item?.id !== id) this.leave();
    }
  }

  present(item) {
    const other = this.item?.id !== item.id;
    this.item = item;
    this.name.textContent = item.at_s ? `${item.name} at ${clock(item.at_s)}` : item.name;
    this.stage.show(item, { original: this.options.originals() });
    this.neighbours();
    this.ticked.setAttribute("aria-pressed", String(this.options.selected(item.id)));
    this.fill();
    this.locate(other);
    if (other) say(`${named(item)}${this.index === null ? "" : `, ${this.index + 1} of ${this.options.list()?.total}`}`);
  }

  fill() {
    const phrase = phraseOf(state());
    const kept = this.panel.contains(document.activeElement) ? document.activeElement?.getAttribute("aria-label") : null;
    this.panel.replaceChildren(...details(this.item, {
      phrase,
      locate: (words) => words && go({ phrase: words === state().q ? "" : words, heat: state().heat || !state().boxes }, { replace: true }),
      open: (id) => go({ item: id }, { replace: true }),
      folder: (path) => go({ view: "photos", item: null, filters: { ...state().filters, path: inFolder(path) } }),
    }));
    if (kept) this.panel.querySelector(`[aria-label="${CSS.escape(kept)}"]`)?.focus();
  }

  /** The heat map and the boxes of the phrase, as far as they are wanted. */
  locate(other) {
    const now = state();
    const phrase = phraseOf(now);
    const has = Boolean(this.item.thumbnail && this.item.modality !== "text");
    const parts = [["heat", this.hot, this.stage], ["boxes", this.framed, this.places]];
    for (const [name, pressed, part] of parts) {
      pressed.hidden = !has;
      pressed.setAttribute("aria-pressed", String(now[name]));
      const wanted = now[name] && phrase && has ? `${this.item.id} ${phrase}` : "";
      if (wanted === this.located[name] && !other) continue;
      this.located[name] = wanted;
      if (wanted) part.locate(phrase);
      else part.clearPlaces();
    }
  }

  /** @param {"heat"|"boxes"} name */
  toggle(name) {
    if (this.hot.hidden) return;
    if (!phraseOf(state())) {
      this.setDetails(true);
      this.panel.querySelector("input")?.focus();
      return;
    }
    go({ [name]: !state()[name] }, { replace: true });
  }

  /** Another item, from which Escape leads back to this one. */
  openOther(id) {
    if (id) go({ ...CLOSED, item: id, phrase: "" }, { remember: { opened: true } });
  }

  /** The neighbour in the list, wherever its page is. */
  async step(by) {
    const list = this.options.list();
    if (!list || this.index === null) return;
    const to = this.index + by;
    if (to < 0 || to >= (list.total ?? 0)) return;
    const item = list.item(to) ?? (await list.page(Math.floor(to / PAGE)))[to % PAGE];
    if (item) go({ item: item.id }, { replace: true, remember: { index: to } });
  }

  /** Neighbours are loaded before they are asked for. */
  warm() {
    if (this.index === null) return;
    for (const by of [1, -1]) {
      const item = this.options.list()?.item(this.index + by);
      if (item?.thumbnail) new Image().src = thumbnail(item, this.stage.fineWidth());
    }
  }

  /** More like this is a search by it; less like this changes the search that is there. */
  search(weight) {
    const now = state();
    const id = /** @type {number} */ (now.item);
    const rest = now.terms.filter((term) => !("item" in term && term.item === id));
    if (weight < 0 && !termsOf({ ...now, terms: rest }).length) return toast("First search for something; then less of this can be asked for.");
    if (weight > 0) go({ view: "photos", album: "", q: "", weight: 1, terms: [{ item: id, weight: 1 }], ...CLOSED, phrase: "" });
    else go({ view: "photos", album: "", terms: [...rest, { item: id, weight: -0.5 }], ...CLOSED });
  }

  select() {
    this.options.select(this.item);
    this.ticked.setAttribute("aria-pressed", String(this.options.selected(this.item.id)));
  }

  wanted() {
    try {
      return (localStorage.getItem(KEPT) ?? (innerWidth >= 1200 ? "1" : "0")) === "1";
    } catch {
      return innerWidth >= 1200;
    }
  }

  toggleDetails() {
    const on = !this.box.classList.contains("detailed");
    this.setDetails(on);
    try {
      localStorage.setItem(KEPT, on ? "1" : "0");
    } catch {
      // Then it is forgotten.
    }
  }

  setDetails(on) {
    this.box.classList.toggle("detailed", on);
    this.panel.hidden = !on;
    this.known.setAttribute("aria-pressed", String(on));
  }

  key(event) {
    if (event.target.closest("input, textarea, video") || event.ctrlKey || event.metaKey || event.altKey) return;
    const ways = {
      ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1), h: () => this.toggle("heat"), b: () => this.toggle("boxes"), i: () => this.toggleDetails(),
      m: () => this.search(1), l: () => this.search(-1), x: () => this.select(), "+": () => this.stage.zoomBy(1.5), "-": () => this.stage.zoomBy(1 / 1.5), 0: () => this.stage.unzoom(),
    };
    if (!ways[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    ways[event.key]();
  }

  swipe() {
    let from = null;
    const { element } = this.stage;
    element.addEventListener("touchstart", (event) => (from = event.touches.length === 1 && this.stage.zoom.scale === 1 ? event.touches[0] : null), { passive: true });
    element.addEventListener("touchend", (event) => {
      if (!from) return;
      const x = event.changedTouches[0].clientX - from.clientX;
      const y = event.changedTouches[0].clientY - from.clientY;
      if (Math.abs(x) > 60 && Math.abs(x) > 2 * Math.abs(y)) this.step(x < 0 ? 1 : -1);
      else if (y > 110 && y > 2 * Math.abs(x)) this.leave();
    });
  }

  /** Back to where it was opened from; a shared URL has nothing behind it. */
  leave() {
    if (remembered().opened) history.back();
    else go({ ...CLOSED, phrase: "" }, { replace: true });
  }

  close() {
    if (!this.box.open) return;
    this.reading.abort();
    this.places.clearPlaces();
    this.stage.clear();
    this.box.close();
    const { item, index } = this;
    this.item = null;
    this.located = { heat: "", boxes: "" };
    if (item) this.options.back(item.id, index);
  }
}
