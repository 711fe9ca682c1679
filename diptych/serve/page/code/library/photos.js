// The photos: the results of a search, an album, or everything there is.

import { cancelled, get, post } from "../api.js";
import { at, button, count, grouped, h, icon, say, toast } from "../dom.js";
import { Grid } from "../grid/grid.js";
import { handle } from "../grid/hands.js";
import { Source, listed } from "../grid/source.js";
import { indexDialog } from "../progress.js";
import { go, gridKey, remember, remembered, searchOf, state, termsOf } from "../state.js";
import { removeMissing } from "./albums.js";

const KEPT = 8;
const IDLE = ["idle", "absent"];
const ORDERS = [["taken_at desc", "Newest first"], ["taken_at asc", "Oldest first"], ["added desc", "Last added"], ["path asc", "By name"], ["size desc", "Largest first"]];

export class Photos {
  /** @param {{selection: any, ask: (ids: number[]) => void, actions: () => any[], settled: () => void, hidden: () => boolean}} options */
  constructor(options) {
    this.options = options;
    this.sources = new Map();
    this.key = null;
    this.title = h("h1", {});
    this.actions = h("div.actions");
    this.note = h("div", { role: "status" });
    this.nothing = h("div.empty", { hidden: true });
    this.grid = new Grid({
      selection: options.selection, open: (index) => this.open(index), failed: (error) => this.failed(error), settled: () => this.settled(),
    });
    handle(this.grid, options.selection, (index) => this.open(index), options.ask);
    this.element = h("section", { "aria-label": "Photos" }, h("div.view-head", {}, this.title, this.actions), this.note, this.nothing, this.grid.element);
  }

  get list() {
    return this.grid.source;
  }

  /** Show what the state asks for; the same pictures stay as they are. */
  show(now, how) {
    const key = gridKey(now);
    if (key === this.key && how !== "again") return;
    const anchor = how === "pop" || how === "start" ? remembered().anchor ?? null : null;
    this.key = key;
    const source = this.sources.get(key) ?? this.source(now);
    this.keep(key, source);
    if (source.total === null && this.grid.source && how !== "again") this.element.setAttribute("aria-busy", "true");
    if (!anchor && how !== "again") scrollTo({ top: 0, behavior: "instant" });
    this.grid.show(source, anchor);
    this.head(now);
  }

  keep(key, source) {
    this.sources.delete(key);
    this.sources.set(key, source);
    for (const old of [...this.sources.keys()].slice(0, -KEPT)) this.sources.delete(old);
  }

  source(now) {
    if (now.album) return this.albumSource(now.album);
    const search = searchOf(now);
    if (!search.terms.length) return this.everything(now);
    return new Source(async (offset, limit, cursor, signal) => {
      const answer = await post("search", { ...search, offset, limit, cursor }, signal);
      return { ...answer, items: answer.hits };
    });
  }

  everything(now) {
    const { sort, order, filters } = now;
    return new Source((offset, limit, cursor, signal) => get("items", { ...filters, sort, order, offset, limit, cursor }, signal));
  }

  albumSource(id) {
    let inside = null;
    const source = new Source(async (offset, limit, cursor, signal) => {
      source.album ??= await get(`albums/${encodeURIComponent(id)}`, {}, signal);
      inside ??= source.album.items ? listed(source.album.items) : null;
      if (inside) return inside.load(offset, limit, null, signal);
      const answer = await post("search", { ...source.album.search, offset, limit, cursor }, signal);
      return { ...answer, items: answer.hits };
    });
    return source;
  }

  /** The index has changed: other lists are out of date, and this one too. */
  async refresh() {
    for (const key of this.sources.keys()) if (key !== this.key) this.sources.delete(key);
    const source = this.source(state());
    const key = this.key;
    try {
      await source.page(0);
    } catch {
      return;
    }
    if (key !== this.key || source.total === null) return;
    this.keep(key, source);
    this.grid.show(source, this.grid.anchor());
    this.head(state());
    this.settled();
  }

  head(now) {
    const { total, answer, album } = this.grid.source;
    const words = termsOf(now).length > 0;
    const filtered = Object.keys(now.filters).length > 0;
    const what = album ? album.name : words ? "Results" : filtered ? "Filtered" : "All pictures";
    this.title.replaceChildren(what, " ", h("span.soft.small.numbers", { style: { "font-weight": "400" } }, this.number()));
    this.actions.replaceChildren(...(words || now.album ? [] : [this.order(now)]), ...this.options.actions());
    this.element.toggleAttribute("aria-busy", total === null);
    this.kindly(answer);
    if (album?.missing) this.gone(album);
    this.none(total, words || filtered);
  }

  /** How many there are. A search that nothing limits finds everything: what it says then is the order. */
  number() {
    const { total, album } = this.grid.source;
    if (total === null) return "";
    const search = album ? album.search : termsOf(state()).length > 0 && searchOf(state());
    if (!search) return grouped(total);
    const things = search.modality === "picture" ? count(total, "picture") : search.modality === "text" ? count(total, "text") : count(total, "picture or text", "pictures and texts");
    return `${search.relevant ? things.replace(" ", " relevant ") : things}${total > 1 ? ", nearest first" : ""}`;
  }

  order(now) {
    const select = h("select.input", { "aria-label": "Order", style: { width: "auto", "min-height": "36px", "padding-block": "4px" } });
    for (const [value, label] of ORDERS) select.append(h("option", { value }, label));
    select.value = `${now.sort} ${now.order}`;
    select.addEventListener("change", () => {
      const [sort, order] = select.value.split(" ");
      go({ sort, order });
    });
    return select;
  }

  /** Words that the model never saw are no fault of who typed them. */
  kindly(answer) {
    const words = answer?.unseen_words ?? [];
    this.note.replaceChildren();
    if (this.options.hidden()) this.note.append(h("p.kindly", {}, icon("info"), "Pictures are not shown: they lie elsewhere. Whoever runs the server can say where, with --pictures."));
    if (answer?.truncated) this.note.append(h("p.kindly", {}, icon("info"), "The text is longer than the model reads; it goes by its beginning."));
    if (!words.length) return;
    const listed = words.map((word) => `“${word}”`).join(", ");
    const what = answer.all_unseen ? `The model has never seen ${listed}, so these pictures are a guess. Other words may do better.`
      : `The model has never seen ${listed}; it goes by the other words.`;
    this.note.append(h("p.kindly", {}, icon("info"), what));
  }

  /** Files of an album that the library no longer has. */
  gone(album) {
    const drop = button("", "Take them out of the album", () => removeMissing(album.id), { text: true, kind: "plain" });
    this.note.append(h("p.kindly", {}, icon("info"), `${count(album.missing, "file")} of this album ${album.missing === 1 ? "is" : "are"} gone from the library. `, drop));
  }

  none(total, asked) {
    this.nothing.hidden = total !== 0;
    if (total !== 0) return;
    const { album } = this.grid.source;
    const relevant = !album && asked && state().relevant && termsOf(state()).length > 0;
    const [title, hint] = album?.items ? ["This album is empty", "Select pictures and put them into it."]
      : relevant ? ["Nothing was found", "Only what is relevant was looked for, and nothing stands out from the rest as what the search says."]
      : asked || album ? ["Nothing was found", "Other words, or fewer filters, may find something."] : this.bare();
    this.nothing.replaceChildren(icon("picture"), h("h2", {}, title), h("p", {}, hint));
    if (relevant) this.nothing.append(button("", "Show all, nearest first", () => go({ relevant: false }), { text: true, kind: "main" }));
    if (Object.keys(state().filters).length) this.nothing.append(button("", "Remove the filters", () => go({ filters: {} }), { text: true }));
    else if (!asked && !album && this.index?.failed) this.nothing.append(button("", "Which files, and why", indexDialog, { text: true }));
  }

  /** A title and a hint for a library without pictures. */
  bare() {
    const { name = "", failed = 0, texts = 0, state: does = "" } = this.index ?? {};
    const soon = "As soon as pictures are indexed, they appear here.";
    if (failed) return [`${count(failed, "file")} could not be read`, `There is no other picture in “${name}”. ${soon}`];
    if (texts) return [`“${name}” has no pictures`, `It has ${count(texts, "text")}, which a search finds. ${soon}`];
    return IDLE.includes(does) ? [`“${name}” is empty`, `There are no pictures, films or texts in it. ${soon}`] : ["There is nothing here yet", soon];
  }

  /** The state of the index is another one. */
  know(index) {
    this.index = index;
    if (!this.nothing.hidden && this.grid.source?.total === 0) this.head(state());
  }

  /** A page came, or the list came to rest. */
  settled() {
    const { source } = this.grid;
    if (!source || source.total === null) return;
    if (this.said !== source) {
      this.said = source;
      say(source.total ? `${/[a-z]/.test(this.number()) ? this.number() : count(source.total, "picture")}.` : "Nothing was found.");
    }
    if (this.headed !== source || this.headTotal !== source.total) {
      this.headed = source;
      this.headTotal = source.total;
      this.head(state());
    }
    if (this.element.isConnected) this.leave();
    this.options.settled();
  }

  /** Note where the grid stands, for the way back. */
  leave() {
    if (this.grid.shown && state().view === "photos") remember({ anchor: this.grid.anchor() });
  }

  failed(error) {
    if (cancelled(error)) return;
    this.element.removeAttribute("aria-busy");
    if (this.grid.source.total !== null) return toast(error.message);
    this.nothing.hidden = false;
    this.nothing.replaceChildren(icon("caution"), h("h2", {}, "That did not work"), h("p", {}, error.message),
      button("again", "Try again", () => (this.sources.delete(this.key), (this.key = null), this.show(state(), "push")), { text: true }));
    say(error.message);
  }

  open(index) {
    const item = this.grid.source.item(index);
    if (item) go({ item: item.id }, { remember: { opened: true, index } });
  }

  /** The focus goes into the grid, as soon as its pictures are there. False where there are none. */
  enter(index) {
    if (this.list?.total === 0) return false;
    this.grid.focus(index);
    return true;
  }

  /** From the large view back to the place in the grid. */
  back(id, index) {
    if (!this.element.isConnected) return;
    const here = this.list?.indexOf(id) ?? index;
    if (here !== null && here !== undefined) this.grid.focus(here);
    else at("main").focus({ preventScroll: true });
  }
}
