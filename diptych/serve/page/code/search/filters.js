// The filters: a dialog to set them, chips that show and remove them.

import { get } from "../api.js";
import { dialog } from "../dialogs.js";
import { button, field, grouped, h, icon, toast } from "../dom.js";
import { folderOf, go, inFolder, state, termsOf } from "../state.js";

const KINDS = { picture: "Pictures", video: "Films", text: "Texts" };
const SHAPES = { landscape: "Landscape", portrait: "Portrait", square: "Square" };

const month = new Intl.DateTimeFormat("en", { month: "short", year: "numeric" });
const monthName = (text) => month.format(new Date(`${text}-15T12:00:00`));

/** Each filter in words. */
const WORDS = {
  since: (value) => `since ${value}`,
  until: (value) => `until ${value}`,
  file_dates: () => "with file dates",
  camera: (value) => value,
  path: folderOf,
  kind: (value) => KINDS[value] ?? value,
  orientation: (value) => SHAPES[value] ?? value,
  min_megapixels: (value) => `≥ ${value} MP`,
  min_width: (value) => `≥ ${value} px wide`,
  min_height: (value) => `≥ ${value} px high`,
  near: (value) => {
    const [latitude, longitude, km] = value.split(",");
    return `within ${km} km of ${latitude}, ${longitude}`;
  },
  box: (value) => `in ${value.split(",").join(", ")}`,
};

/** Chips for all that is filtered and set, below the search box. */
export function showFilters(host, now) {
  const chips = Object.entries(now.filters).map(([name, value]) => chip(WORDS[name](value), () => set(name, "")));
  if (now.relevant && !termsOf(now).length) chips.push(chip("relevant only", () => go({ relevant: false })));
  if (now.copies) chips.push(chip("with copies", () => go({ copies: false })));
  if (now.diverse) chips.push(chip(`varied: ${now.diverse}`, () => go({ diverse: 0 })));
  if (now.modality !== "picture") chips.push(chip(now.modality === "text" ? "texts" : "pictures and texts", () => go({ modality: "picture" })));
  host.replaceChildren(...chips);
  host.hidden = !chips.length || now.view !== "photos";
}

function chip(words, drop) {
  return h("span.chip", {}, words, h("button", { type: "button", "aria-label": `Remove: ${words}`, onclick: drop }, icon("close")));
}

function set(name, value) {
  const filters = { ...state().filters, [name]: value };
  if (!value) delete filters[name];
  go({ filters, view: "photos" });
}

/** The dialog. Nothing changes before "Show". */
export async function filterDialog() {
  const now = state();
  const host = h("div", { style: { display: "grid", gap: "16px" } }, h("p.soft", {}, "Counting …"));
  const { close } = dialog("Filters", () => host);
  let facets = { kinds: {}, cameras: [], months: [], folders: [], located: 0 };
  try {
    facets = await get("facets");
  } catch (error) {
    toast(error.message);
  }
  fill(host, now, facets, close);
}

function fill(host, now, facets, close) {
  const given = now.filters;
  const box = (value = "", more = {}) => h("input.input", { value, ...more });
  const since = box(given.since, { placeholder: "2024 or 2024-05-31" });
  const until = box(given.until, { placeholder: "2024 or 2024-05-31" });
  const camera = list("cameras", given.camera, facets.cameras.map((each) => [each.name, each.count]));
  const folder = list("folders", folderOf(given.path ?? ""), facets.folders.map((each) => [each.path, each.count]));
  const megapixels = box(given.min_megapixels, { type: "number", min: 0, step: "any", inputmode: "decimal" });
  const near = box(given.near, { placeholder: "47.37, 8.54, 10", "aria-describedby": "near-hint" });
  const area = box(given.box, { placeholder: "45, 5, 48, 11", "aria-describedby": "box-hint" });
  const kinds = segments("Kind", "kind", { "": "All", ...KINDS }, given.kind ?? "");
  const shapes = segments("Shape", "orientation", { "": "All", ...SHAPES }, given.orientation ?? "");
  const what = segments("Find", "modality", { picture: "Pictures", both: "Both", text: "Texts" }, now.modality);
  const relevant = h("input", { type: "checkbox", checked: now.relevant });
  const copies = h("input", { type: "checkbox", checked: now.copies });
  const dates = h("input", { type: "checkbox", checked: given.file_dates === "1" });
  const diverse = h("input", { type: "range", min: 0, max: 1, step: 0.1, value: now.diverse });
  const apply = (event) => {
    event.preventDefault();
    const path = folder.input.value.trim();
    const filters = clean({
      since: since.value, until: until.value, file_dates: dates.checked ? "1" : "", camera: camera.input.value,
      path: path && !path.includes("*") ? inFolder(path.replace(/\/$/, "")) : path, min_megapixels: megapixels.value,
      near: numbers(near.value), box: numbers(area.value), kind: kinds.value(), orientation: shapes.value(),
    });
    for (const name of ["min_width", "min_height"]) if (given[name]) filters[name] = given[name];
    close();
    go({ view: "photos", filters, relevant: relevant.checked, copies: copies.checked, diverse: Number(diverse.value), modality: what.value() });
  };
  const searches = [
    h("h3", {}, "Searches"), h("label.check", {}, relevant, "Only what is relevant"), h("label.check", {}, copies, "Each copy on its own"),
    what.element, field("Variety", diverse),
  ];
  const searched = termsOf(now).length > 0;
  host.replaceChildren(h("form", { onsubmit: apply, style: { display: "grid", gap: "16px" } },
    ...(searched ? [...searches, h("h3", {}, "Pictures")] : []),
    months(facets.months, since, until),
    h("div.pair", {}, field("Since", since), field("Until", until)),
    h("label.check", {}, dates, "Where no date was recorded, use the file's"),
    kinds.element, shapes.element,
    h("div.pair", {}, field("Camera", camera.element), field("Folder", folder.element)),
    h("div.pair", {}, field("Megapixels, at least", megapixels), h("span")),
    h("div.pair", {},
      field("Near", near, h("span.small.soft", { id: "near-hint" }, "latitude, longitude, km")),
      field("Within a box", area, h("span.small.soft", { id: "box-hint" }, "south, west, north, east"))),
    h("p.small.soft", {}, `${grouped(facets.located ?? 0)} pictures know where they were taken.`),
    ...(searched ? [] : searches),
    h("div.dialog-foot.stays", {}, button("", "Remove all", () => {
      close();
      go({ view: "photos", filters: {}, relevant: false, copies: false, diverse: 0, modality: "picture" });
    }, { text: true }), button("", "Show", null, { text: true, kind: "main", type: "submit" }))));
  since.focus({ preventScroll: true });
}

const clean = (filters) => Object.fromEntries(Object.entries(filters).map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
const numbers = (text) => text.split(/[\s,;]+/).filter(Boolean).join(",");

/** A field with what there is to choose from. */
function list(id, value, entries) {
  const input = h("input.input", { value: value ?? "", list: `facet-${id}` });
  const options = h("datalist", { id: `facet-${id}` }, entries.map(([name, number]) => h("option", { value: name }, grouped(number))));
  return { input, element: h("span", {}, input, options) };
}

/** One of a few, as radio buttons. */
export function segments(legend, name, choices, value) {
  const radios = Object.entries(choices).map(([key, label]) =>
    h("label", {}, h("input", { type: "radio", name, value: key, checked: key === value }), h("span", {}, label)));
  const element = h("fieldset", { style: { border: "0", padding: "0", margin: "0", "min-width": "0" } }, h("legend.small.soft", { style: { padding: "0 0 4px" } }, legend), h("div.segments", {}, radios));
  return { element, value: () => element.querySelector("input:checked")?.value ?? "" };
}

/** How many pictures each month has; a click takes a month, a second one the time up to another. */
function months(counted, since, until) {
  if (counted.length < 2) return null;
  const sorted = [...counted].sort((a, b) => a.month.localeCompare(b.month)).slice(-120);
  const most = Math.max(...sorted.map((each) => each.count));
  const row = h("div.months", { role: "group", "aria-label": "Pictures of each month" });
  const marked = () => {
    const within = (name) => since.value && name >= since.value.slice(0, 7) && name <= (until.value || "9999").slice(0, 7);
    for (const each of row.children) each.setAttribute("aria-pressed", String(Boolean(within(each.dataset.month))));
  };
  for (const { month: name, count } of sorted) {
    const words = `${monthName(name)}: ${grouped(count)}`;
    row.append(h("button", {
      type: "button", title: words, "aria-label": words, "aria-pressed": "false", "data-month": name,
      onclick: () => {
        if (since.value === until.value && since.value && name > since.value) until.value = name;
        else since.value = until.value = name;
        marked();
      },
    }, h("i", { style: { height: `${Math.max(5, (100 * count) / most)}%` } })));
  }
  for (const input of [since, until]) input.addEventListener("input", marked);
  marked();
  return row;
}
