// The page: its parts, and which of them the state asks for.

import { get, onLocked, post, watch } from "./api.js";
import { at, button, h, icon, toast } from "./dom.js";
import { Draw } from "./drawing/draw.js";
import { keysDialog, watchKeys } from "./keys.js";
import { Albums, onAlbumsChanged, saveSearch } from "./library/albums.js";
import { Duplicates } from "./library/duplicates.js";
import { LibraryMap } from "./library/map.js";
import { Photos } from "./library/photos.js";
import { indexDialog, showProgress } from "./progress.js";
import { searchBox } from "./search/box.js";
import { filterDialog, showFilters } from "./search/filters.js";
import { selectionBar } from "./selection/bar.js";
import { exportDialog } from "./selection/exports.js";
import { Selection } from "./selection/selection.js";
import { CLOSED, MOST_SELECTED, empty, go, listen, note, onLeave, remembered, searchOf, start, state, termsOf } from "./state.js";
import { askForToken } from "./token.js";
import { Viewer } from "./viewer/viewer.js";

const PLACES = [["photos", "Photos"], ["map", "Map"], ["duplicates", "Duplicates"], ["albums", "Albums"], ["draw", "Draw"]];
const FRESH = 3000;

const selection = new Selection();
const server = { originals: false, pictures: true, drawing: false };
const box = searchBox(at("search"), { enter: () => shown === photos && photos.enter(0), stay: () => (photos.grid.awaited = null) });
const photos = new Photos({ selection, actions, ask: (ids) => box.addItems(ids), settled: () => viewer.relocate(), hidden: () => !server.pictures });
const views = { photos, map: new LibraryMap(), duplicates: new Duplicates(), albums: new Albums(), draw: new Draw() };
let shown = null;

const viewer = new Viewer({
  list: () => shown?.list ?? null,
  back: (id, index) => shown?.back?.(id, index),
  originals: () => server.originals,
  select: (item) => selection.toggle(item),
  selected: (id) => selection.has(id),
});

/** What can be done with what is shown. */
function actions() {
  const now = state();
  const searched = termsOf(now).length > 0;
  const text = { text: true };
  return [
    searched && button("like", "Only what is relevant", () => go({ relevant: !now.relevant }), { text: true, title: "Only what is relevant", "aria-pressed": String(now.relevant) }),
    searched && button("save", "Save", saveSearch, text),
    (searched || now.album) && button("download", "Export", () => exportDialog(now.album ? { album: now.album } : { search: searchOf(now) }, now.album ? "This album" : "What this search finds, best first"), text),
    button("filter", "Filters", filterDialog, { text: true, "aria-haspopup": "dialog" }),
  ].filter(Boolean);
}

function places(now) {
  at("places").replaceChildren(...PLACES.filter(([view]) => view !== "draw" || server.drawing || now.view === view).map(([view, label]) => h("a", {
    href: view === "photos" ? "./" : `?view=${view}`, "aria-current": now.view === view ? "page" : null, title: label,
    onclick: (event) => !event.ctrlKey && !event.metaKey && !event.shiftKey && (event.preventDefault(), visit(view)),
  }, icon(view), h("span", {}, label))));
}

/** Photos keeps its search when somebody comes back from another view. */
function visit(view) {
  const now = state();
  if (view === "photos" && now.view === "photos") go({ ...empty(), selected: now.selected });
  else go({ view, ...CLOSED, album: "", place: "", prompt: "" });
}

function tools() {
  const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const theme = button(dark() ? "sun" : "moon", "Light or dark", () => switchTheme(), { kind: "plain" });
  const switchTheme = () => {
    const chosen = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    theme.replaceChildren(icon(chosen === "dark" ? "sun" : "moon"));
    try {
      localStorage.setItem("diptych.theme", chosen);
    } catch {
      // Then it lasts as long as the page.
    }
  };
  at("tools").append(button("info", "The library", indexDialog, { kind: "plain" }), button("keys", "Keys", keysDialog, { kind: "plain.with-keyboard" }), theme);
  return switchTheme;
}

function show(now, before, how) {
  const view = views[now.view];
  const other = shown !== view;
  if (other) {
    shown?.hide?.();
    at("main").replaceChildren(view.element);
    shown = view;
  }
  if (before.view !== now.view || how === "start") places(now);
  showFilters(at("filters"), now);
  box.show();
  if (other && now.view !== "photos") scrollTo({ top: how === "pop" ? remembered().y ?? 0 : 0, behavior: "instant" });
  view.show(now, other && how === "push" ? "switch" : how);
  if (other && now.view === "photos") photos.grid.measure(remembered().anchor ?? { index: 0, delta: null });
  document.title = title(now);
  viewer.show(now);
}

function title(now) {
  const words = termsOf(now).map((term) => ("text" in term ? term.text : "picture")).join(" + ");
  const name = now.view === "photos" ? words : PLACES.find(([view]) => view === now.view)?.[1];
  return name ? `${name} – Diptych` : "Diptych";
}

/** The URL has a short selection; who opens it has it again. Later steps of the history do not take it away. */
async function followSelection() {
  const { selected } = state();
  if (selected.length) {
    try {
      selection.add((await post("items/lookup", { ids: selected })).items);
    } catch (error) {
      toast(error.message);
    }
  }
  const keep = () => note({ selected: selection.size <= MOST_SELECTED ? selection.ids : [] });
  selection.listen(keep);
  listen((now) => now.selected.join() !== (selection.size <= MOST_SELECTED ? selection.ids : []).join() && keep());
}

/** New pictures appear by themselves where nobody is in the middle of something; otherwise they are offered. */
function followIndex() {
  let version = null;
  let timer = 0;
  let waiting = false;
  const refresh = () => {
    waiting = false;
    views.map.stale();
    views.duplicates.shown = null;
    const idle = scrollY < 60 && !viewer.open && !selection.size && shown === photos && !document.querySelector("dialog[open]");
    if (idle || photos.list?.total === 0) photos.refresh();
    else toast("The library has changed.", "Show", () => photos.refresh());
  };
  watch({
    index: (index) => {
      showProgress(index);
      photos.know(index);
      if (version !== null && index.version !== version && !waiting) {
        waiting = true;
        clearTimeout(timer);
        timer = setTimeout(refresh, FRESH);
      }
      version = index.version;
    },
  });
}

const switchTheme = tools();
selectionBar(selection, box);
onLocked(askForToken);
onLeave(() => photos.leave());
onAlbumsChanged((id) => {
  if (state().album === id) photos.refresh();
});
listen(show);
at("home").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go({ ...empty(), selected: state().selected });
});
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  if (shown !== photos || !photos.enter(0)) at("main").focus({ preventScroll: true });
});
addEventListener("scroll", () => document.documentElement.toggleAttribute("data-scrolled", scrollY > 4), { passive: true });
watchKeys({
  "/": () => box.focus(), "?": keysDialog, f: filterDialog, t: switchTheme, s: () => termsOf(state()).length && saveSearch(),
  "g p": () => visit("photos"), "g m": () => visit("map"), "g d": () => visit("duplicates"), "g a": () => visit("albums"), "g w": () => server.drawing && visit("draw"), Escape: () => selection.clear(),
});
get("server").then((answer) => (Object.assign(server, answer), places(state()), !server.pictures && photos.list && photos.head(state())), () => {});
start();
followIndex();
followSelection();
