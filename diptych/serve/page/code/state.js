// The state of the page is its URL. Defaults are left out, so that URLs stay short; unknown parameters are ignored.

/**
 * @typedef {{text: string, weight: number} | {item: number, weight: number} | {upload: string, weight: number}} Term
 * @typedef {object} State
 * @property {"photos"|"map"|"duplicates"|"albums"|"draw"} view
 * @property {string} q the words of the box
 * @property {number} weight of the words
 * @property {Term[]} terms all further terms
 * @property {Record<string, string>} filters
 * @property {boolean} relevant
 * @property {boolean} copies
 * @property {number} diverse
 * @property {string} modality
 * @property {string} sort
 * @property {string} order
 * @property {number|null} item what the large view shows
 * @property {boolean} heat
 * @property {boolean} boxes
 * @property {string} phrase what the heat map and the boxes are of, where it is not the query
 * @property {number[]} selected ids of the selection, as long as it is short
 * @property {string} album
 * @property {number} threshold of duplicates
 * @property {string} prompt what is drawn
 * @property {string} place what the map shows: x,y,zoom
 */

export const FILTERS = [
  "since", "until", "file_dates", "box", "near", "camera", "path", "min_width", "min_height", "min_megapixels", "orientation", "kind",
];
const FLAGS = ["relevant", "copies", "heat", "boxes"];
const VIEWS = ["photos", "map", "duplicates", "albums", "draw"];

/** @type {State} */
const EMPTY = {
  view: "photos", q: "", weight: 1, terms: [], filters: {}, relevant: false, copies: false, diverse: 0, modality: "picture",
  sort: "taken_at", order: "desc", item: null, heat: false, boxes: false, selected: [], phrase: "", album: "", threshold: 0.85, place: "", prompt: "",
};

/** What a state without the large view has. */
export const CLOSED = { item: null, heat: false, boxes: false };

/** A longer selection is no address any more; an album keeps it. */
export const MOST_SELECTED = 50;

export const empty = () => ({ ...EMPTY, terms: [], filters: {}, selected: [] });

/** @param {string} search what follows the question mark @returns {State} */
export function parse(search) {
  const given = new URLSearchParams(search);
  const state = empty();
  const view = given.get("view") ?? "";
  if (VIEWS.includes(view)) state.view = /** @type {any} */ (view);
  for (const name of ["q", "modality", "sort", "order", "phrase", "album", "place", "prompt"]) state[name] = given.get(name) ?? EMPTY[name];
  for (const name of FLAGS) state[name] = given.get(name) === "1";
  state.weight = number(given.get("weight"), 1) || 1;
  state.diverse = Math.min(1, Math.max(0, number(given.get("diverse"), 0)));
  state.threshold = Math.min(1, Math.max(0.5, number(given.get("threshold"), EMPTY.threshold)));
  state.item = /^\d{1,16}$/.test(given.get("item") ?? "") ? Number(given.get("item")) : null;
  state.selected = numbers(given.get("selected") ?? "");
  state.terms = [...given.entries()].filter(([name]) => name === "like" || name === "also").map(term).filter(Boolean);
  for (const name of FILTERS) if (given.get(name)) state.filters[name] = given.get(name);
  return state;
}

/** `17`, `u_1f~0.5`, `a rectangle~-1`: the weight stands behind the last tilde. */
function term([name, value]) {
  const [, what, behind] = /^(.*?)(?:~(-?[\d.]+))?$/s.exec(value);
  const weight = number(behind ?? null, 1) || 1;
  if (name === "also") return what.trim() ? { text: what, weight } : null;
  if (/^\d{1,16}$/.test(what)) return { item: Number(what), weight };
  return /^u_\w+$/.test(what) ? { upload: what, weight } : null;
}

/** Ids between commas; with anything else between them, none. */
function numbers(text) {
  if (!/^\d{1,16}(,\d{1,16})*$/.test(text)) return [];
  return [...new Set(text.split(",").map(Number))].slice(0, MOST_SELECTED);
}

function number(text, otherwise) {
  const value = text === null || text === "" ? NaN : Number(text);
  return Number.isFinite(value) ? value : otherwise;
}

/** @param {State} state @returns {string} "?..." or "" */
export function format(state) {
  const out = new URLSearchParams();
  for (const name of ["view", "q", "weight"]) if (state[name] !== EMPTY[name]) out.set(name, state[name]);
  for (const each of state.terms) {
    const what = String("text" in each ? each.text : "item" in each ? each.item : each.upload);
    const plain = each.weight === 1 && !/~-?[\d.]+$/.test(what);
    out.append("text" in each ? "also" : "like", plain ? what : `${what}~${each.weight}`);
  }
  for (const name of FILTERS) if (state.filters[name]) out.set(name, state.filters[name]);
  for (const name of ["modality", "diverse", "sort", "order", "album", "threshold", "place", "prompt", "phrase", "item"]) {
    if (state[name] !== EMPTY[name]) out.set(name, String(state[name]));
  }
  for (const name of FLAGS) if (state[name]) out.set(name, "1");
  if (state.selected.length) out.set("selected", state.selected.join(","));
  const text = out.toString();
  return text ? `?${text}` : "";
}

/** All terms in the API's form; none is a list without a query. @param {State} state */
export function termsOf(state) {
  const words = state.q.trim() ? [{ text: state.q.trim(), weight: state.weight }] : [];
  return [...words, ...state.terms];
}

const BOOLEANS = new Set(["file_dates"]);
const NUMBERS = new Set(["min_width", "min_height", "min_megapixels"]);

/** Filters in the form of a search's body. */
export function filtersOf(state) {
  const form = (name, value) => {
    if (BOOLEANS.has(name)) return value === "1" || value === "true";
    if (NUMBERS.has(name)) return Number(value);
    return name === "box" || name === "near" ? value.split(",").map(Number) : value;
  };
  return Object.fromEntries(Object.entries(state.filters).map(([name, value]) => [name, form(name, value)]));
}

/** The body of POST /v1/search. */
export function searchOf(state) {
  const { relevant, copies, diverse, modality } = state;
  return { terms: termsOf(state), filters: filtersOf(state), relevant, copies, diverse, modality };
}

/** What the grid shows, as a text: equal for two states that show the same pictures. */
export function gridKey(state) {
  const none = { ...state, view: "photos", ...CLOSED, selected: [], phrase: "", threshold: EMPTY.threshold, place: "", prompt: "" };
  return format(termsOf(state).length ? { ...none, sort: EMPTY.sort, order: EMPTY.order } : none);
}

const listeners = new Set();
/** Called before a step of the history, which then still is where it was. */
let leaving = () => {};
export const onLeave = (run) => (leaving = run);
let current = parse(location.search);

export const state = () => current;
export const listen = (listener) => listeners.add(listener);

/**
 * Go to another state. `replace` changes the URL without a step of the history.
 * @param {Partial<State>} changes
 */
export function go(changes, { replace = false, remember = {} } = {}) {
  const next = { ...current, ...changes };
  const url = `${location.pathname}${format(next)}`;
  if (replace) history.replaceState({ ...history.state, ...remember }, "", url);
  else if (format(next) !== format(current)) {
    leaving();
    history.pushState(remember, "", url);
  }
  arrive(next, replace ? "replace" : "push");
}

/** Change what the URL says of the present state; nothing that is shown depends on it. */
export function note(changes) {
  current = { ...current, ...changes };
  history.replaceState(history.state, "", `${location.pathname}${format(current)}`);
}

/** Note something about this step of the history, such as where the grid stands. */
export function remember(what) {
  history.replaceState({ ...history.state, ...what }, "");
}

export const remembered = () => history.state ?? {};

function arrive(next, how) {
  const before = current;
  current = next;
  for (const listener of listeners) listener(next, before, how);
}

/** Show the state of the URL, and follow the browser's back and forward. */
export function start() {
  history.scrollRestoration = "manual";
  window.addEventListener("popstate", () => arrive(parse(location.search), "pop"));
  arrive(current, "start");
}

/** The pattern of all below a folder, in whose name brackets and the like mean themselves. */
export function inFolder(path) {
  return `${path.replace(/[*?[\]\\]/g, "\\$&")}/**`;
}

/** The folder of such a pattern; another pattern as it is. */
export function folderOf(pattern) {
  return pattern.endsWith("/**") ? pattern.slice(0, -3).replace(/\\([*?[\]\\])/g, "$1") : pattern;
}
