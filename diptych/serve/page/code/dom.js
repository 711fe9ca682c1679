// Elements from plain values. Text from the server only ever becomes text nodes and attributes.

const SVG = "http://www.w3.org/2000/svg";

/** Outlines on a grid of 24. */
const ICONS = {
  search: "M10.5 4a6.5 6.5 0 1 1 0 13a6.5 6.5 0 0 1 0-13M15.500 15.500L20 20",
  picture: "M5 4h14a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V6a2 2 0 0 1 2-2zM3 16l5-5 5 5 3-3 5 5M15.500 9h.01",
  photos: "M4 5h7v6H4zM13 5h7v10h-7zM4 13h7v6H4zM13 17h7v2h-7z",
  map: "M6 7h.01M12 5h.01M17 9h.01M8 12h.01M14 13h.01M19 15h.01M5 17h.01M11 18h.01M16 19h.01",
  duplicates: "M8 8h12v12H8zM4 16V4h12",
  albums: "M5 9h14v11H5zM7 6h10M9 3h6",
  filter: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 12.500l4.500 4.500L19 7.500",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  more: "M12 5v14M5 12h14",
  less: "M5 12h14",
  like: "M12 4l2.300 5.200 5.700.6-4.300 3.800 1.200 5.600L12 16.300 7.100 19.200l1.200-5.600L4 9.800l5.700-.6z",
  unlike: "M4 12a8 8 0 1 0 16 0a8 8 0 1 0-16 0M8 12h8",
  heat: "M12 3c1 4 5 6 5 11a5 5 0 0 1-10 0c0-2 1-3 2-4 0 2 1 3 2 3 1-3-1-6 1-10z",
  boxes: "M4 5h10v9H4zM17 9h3v10h-9v-2",
  info: "M12 3a9 9 0 1 1 0 18a9 9 0 0 1 0-18M12 11v5M12 8h.01",
  sun: "M12 8a4 4 0 1 1 0 8a4 4 0 0 1 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.400 1.400M17.600 17.600L19 19M5 19l1.400-1.400M17.600 6.400L19 5",
  moon: "M20 14.500A8.500 8.500 0 0 1 9.500 4a8.500 8.500 0 1 0 10.500 10.500z",
  keys: "M9.500 9a2.500 2.500 0 1 1 3.500 2.300c-.7.300-1 .9-1 1.700M12 16.500h.01M12 3a9 9 0 1 1 0 18a9 9 0 0 1 0-18",
  recent: "M12 4a8 8 0 1 1-7.700 6M4 5v5h5M12 8v4l3 2",
  draw: "M12 3v4M12 17v4M3 12h4M17 12h4M6 6l2.500 2.500M15.500 15.500L18 18M18 6l-2.500 2.500M8.500 15.500L6 18",
  label: "M4 4h8l8 8-8 8-8-8zM8.500 8.500h.01",
  download: "M12 4v11M7 10.500l5 5 5-5M5 20h14",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  bin: "M5 7h14M10 4h4M7 7l1 13h8l1-13",
  pencil: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  save: "M6 4h12v16l-6-4-6 4z",
  video: "M8 5l11 7-11 7z",
  caution: "M12 4l9 16H3zM12 10v4M12 17h.01",
  again: "M19 12a7 7 0 1 1-2-5M19 4v4h-4",
  dots: "M5 12h.01M12 12h.01M19 12h.01",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
};

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  if (name === "map" || name === "dots") path.setAttribute("stroke-width", "3.2");
  svg.append(path);
  return svg;
}

/**
 * An element: `h("button.main", {onclick, hidden: true, style: {width: "4px"}}, "text", child)`.
 * @param {string} spec tag and classes
 * @param {Record<string, any>} [attributes] `on...` are listeners, true and false set or leave out, null leaves out
 * @param {...(Node|string|number|null|undefined|false)} children
 * @returns {any}
 */
export function h(spec, attributes = {}, ...children) {
  const [tag, ...classes] = spec.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) give(element, name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false).map(node));
  return element;
}

function give(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
  else if (name === "value" || name === "checked") element[name] = value;
  else element.setAttribute(name, value === true ? "" : String(value));
}

const node = (child) => (typeof child === "number" ? String(child) : child);

/** A button with an icon; `label` is read aloud, and shown where `text` is true. */
export function button(name, label, onclick, { text = false, kind = "", ...more } = {}) {
  const spec = `button.button${text ? "" : ".square"}${kind ? `.${kind}` : ""}`;
  const named = text ? {} : { "aria-label": label, title: label };
  return h(spec, { type: "button", onclick, ...named, ...more }, name && icon(name), text && h("span", {}, label));
}

/** A field: its label above a control. */
export function field(label, control, hint = "") {
  return h("label.field", {}, h("span", {}, label), control, hint && h("span.small.soft", {}, hint));
}

/** @param {string} id */
export const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

let clearing = 0;

/** Say it to who listens. The same text twice is said twice. */
export function say(text) {
  at("said").textContent = "";
  clearTimeout(clearing);
  clearing = setTimeout(() => (at("said").textContent = text), 60);
}

/** Show a short message for a few seconds, with an action or without. */
export function toast(text, action = "", run = () => {}) {
  const shown = h("div.toast", {}, h("span", {}, text));
  const end = () => shown.remove();
  if (action) shown.append(h("button", { type: "button", onclick: () => (end(), run()) }, action));
  at("toasts").replaceChildren(shown);
  setTimeout(end, action ? 9000 : 5000);
}

const whole = new Intl.NumberFormat("en");
export const count = (number, one, many = `${one}s`) => `${whole.format(number)} ${number === 1 ? one : many}`;
export const grouped = (number) => whole.format(number);
