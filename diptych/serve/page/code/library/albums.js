// Albums: saved searches, which find what is new, and selections, which stay.

import { get, patch, post, remove } from "../api.js";
import { askFor, dialog, menu } from "../dialogs.js";
import { button, count, h, icon, say, toast } from "../dom.js";
import { exportDialog } from "../selection/exports.js";
import { go, searchOf, state, termsOf } from "../state.js";

const changed = new Set();
export const onAlbumsChanged = (listener) => changed.add(listener);
const tell = (id) => changed.forEach((listener) => listener(id));

/** Save the search that is shown. */
export async function saveSearch() {
  const now = state();
  const words = now.q || termsOf(now).map((term) => ("text" in term ? term.text : "")).filter(Boolean).join(", ");
  const name = await askFor("Save this search", "Name", { value: words || "Search" });
  if (!name) return;
  await attempt(async () => {
    const album = await post("albums", { name, search: searchOf(now) });
    toast(`“${album.name}” is among the albums.`, "Show", () => go({ view: "albums" }));
    tell(album.id);
  });
}

/** Put pictures into an album: a new one, or one that is there. */
export async function addToAlbum(items, suggested = "") {
  const ids = items.map((item) => item.id);
  const { albums } = await get("albums");
  const selections = albums.filter((album) => album.kind !== "search");
  if (suggested || !selections.length) return newAlbum(ids, suggested);
  dialog(`Put ${count(ids.length, "picture")} into`, (close) => h("div", { style: { display: "grid", gap: "8px" } },
    selections.map((album) => button("albums", album.name, () => (close(), put(album, ids)), { text: true, style: { "justify-content": "flex-start" } })),
    button("more", "A new album", () => (close(), newAlbum(ids, "")), { text: true, kind: "main" })));
}

async function newAlbum(ids, suggested) {
  const name = await askFor("New album", "Name", { value: suggested });
  if (!name) return;
  await attempt(async () => {
    const album = await post("albums", { name, items: ids });
    toast(`${count(ids.length, "picture")} in “${album.name}”.`, "Show", () => open(album));
    tell(album.id);
  });
}

const put = (album, ids) => attempt(async () => {
  await patch(`albums/${album.id}`, { add: ids });
  toast(`Put into “${album.name}”.`, "Show", () => open(album));
  tell(album.id);
});

export const removeFromAlbum = (id, ids) => attempt(async () => {
  await patch(`albums/${id}`, { remove: ids });
  tell(id);
});

/** Take the files out of an album that the library no longer has. */
export const removeMissing = (id) => attempt(async () => {
  await patch(`albums/${id}`, { remove_missing: true });
  tell(id);
});

async function attempt(run) {
  try {
    await run();
  } catch (error) {
    toast(error.message);
  }
}

const open = (album) => go({ view: "photos", album: album.id, q: "", terms: [], filters: {}, item: null });

export class Albums {
  constructor() {
    this.list = null;
    this.cards = h("ul.albums");
    this.nothing = h("div.empty", { hidden: true }, icon("albums"), h("h2", {}, "No albums yet"),
      h("p", {}, "Save a search, and it finds new pictures by itself. Or select pictures and put them into an album."));
    this.element = h("section", { "aria-label": "Albums" }, h("div.view-head", {}, h("h1", {}, "Albums")), this.nothing, this.cards);
    onAlbumsChanged(() => this.element.isConnected && this.show());
  }

  async show() {
    await attempt(async () => {
      const { albums } = await get("albums");
      this.nothing.hidden = albums.length > 0;
      this.cards.replaceChildren(...albums.map((album) => this.card(album)));
      say(count(albums.length, "album"));
    });
  }

  card(album) {
    const cover = h("span.cover", {}, album.cover ? h("img", { alt: "", loading: "lazy", src: `${album.cover}${album.cover.includes("?") ? "&" : "?"}width=640` }) : icon("albums"));
    const what = album.kind === "search" ? "saved search" : count(album.count ?? 0, "picture");
    const href = `?album=${encodeURIComponent(album.id)}`;
    const link = h("a", { href, onclick: (event) => !event.ctrlKey && !event.metaKey && (event.preventDefault(), open(album)) }, cover, h("strong", {}, album.name), h("span.soft.small", {}, what));
    const more = button("dots", `What to do with ${album.name}`, () => menu(more, this.choices(album), icon), { kind: "plain", "aria-haspopup": "menu", "aria-expanded": "false" });
    return h("li.album", {}, link, more);
  }

  choices(album) {
    return [
      ["pencil", "Rename", () => this.rename(album)],
      ["download", "Export", () => exportDialog({ album: album.id }, `The album “${album.name}”`)],
      ["bin", "Delete the album", () => this.drop(album)],
    ];
  }

  async rename(album) {
    const name = await askFor("Rename the album", "Name", { value: album.name });
    if (name) await attempt(() => patch(`albums/${album.id}`, { name }));
    this.show();
  }

  /** The pictures stay; and the album can be had back for a few seconds. */
  async drop(album) {
    await attempt(async () => {
      const whole = await get(`albums/${album.id}`);
      await remove(`albums/${album.id}`);
      const again = whole.search ? { search: whole.search } : { items: whole.items.map((item) => item.id) };
      toast(`“${album.name}” is deleted; its pictures stay.`, "Undo", () => attempt(async () => tell((await post("albums", { name: album.name, ...again })).id)));
    });
    this.show();
  }
}
