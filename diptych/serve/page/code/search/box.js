// The search box. Typing searches after a short rest; Enter searches at once and notes the words.

import { button, h, icon } from "../dom.js";
import { go, state, termsOf } from "../state.js";
import { watchDrags } from "./drags.js";
import { forgetSearches, noteSearch, suggestions } from "./recent.js";
import { termChip, weigher } from "./terms.js";
import { sendAll, watchDrops } from "./uploads.js";

const REST = 180;
const MOST_TERMS = 16;

/** @param {HTMLElement} host @param {{enter: () => void, stay: () => void}} results gives them the focus, or no longer */
export function searchBox(host, results) {
  let rest = 0;
  const input = h("input", {
    type: "text", role: "combobox", "aria-expanded": "false", "aria-controls": "suggestions", "aria-autocomplete": "list",
    "aria-label": "Search by words", dir: "auto", placeholder: "Search by words or a picture", autocomplete: "off", spellcheck: "false",
    enterkeyhint: "search", maxlength: 2000,
  });
  const terms = h("span.terms");
  const chooser = h("input", { type: "file", accept: "image/*", multiple: true, hidden: true, "aria-label": "Pictures to search by" });
  const own = h("button.button.own", { type: "button", hidden: true, title: "Weight of the words", onclick: () => weighWords() });
  const clear = button("close", "Clear the search", () => (clearAll(), input.focus()), { kind: "plain", hidden: true });
  const form = h("form.box", { role: "search", onsubmit: (event) => (event.preventDefault(), submit()) },
    icon("search"), h("span.flow", {}, terms, input), own, clear, button("picture", "Search by a picture", () => chooser.click(), { kind: "plain" }), chooser);
  const list = suggestionList(host, input, (words) => ((input.value = words), submit()));
  host.append(form, list.element);

  const search = (options) => {
    clearTimeout(rest);
    const q = input.value;
    if (q.trim() === state().q.trim()) return;
    go({ q: q.trim(), view: "photos", album: "", item: null, phrase: "" }, options);
  };
  const submit = () => {
    list.close();
    search({});
    noteSearch(input.value);
    if (matchMedia("(hover: none)").matches) input.blur();
    else results.enter();
  };
  const clearAll = () => {
    input.value = "";
    clearTimeout(rest);
    go({ q: "", weight: 1, terms: [], view: "photos", album: "", item: null, phrase: "" });
  };
  const setTerms = (more) => go({ terms: more, view: "photos", album: "", item: null });
  const weighWords = () => weigher({
    term: { weight: state().weight }, host, anchor: own, name: "the words", change: (weight) => go({ weight }, { replace: true }),
  });
  const take = async (files) => {
    const sent = await sendAll(files);
    if (sent.length) setTerms([...state().terms, ...sent]);
  };

  input.addEventListener("input", () => {
    results.stay();
    list.update();
    clearTimeout(rest);
    // While somebody types on, the words replace each other: one step of the history for one search.
    rest = setTimeout(() => search({ replace: state().q !== "" && state().view === "photos" }), REST);
  });
  input.addEventListener("blur", () => noteSearch(state().q));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Backspace" && !input.value && state().terms.length) setTerms(state().terms.slice(0, -1));
    else if (event.isComposing) return;
    else if (event.key === "ArrowDown") submit();
    else if (event.key === "Escape") input.blur();
    else return;
    event.preventDefault();
  });
  chooser.addEventListener("change", () => (take([...chooser.files]), (chooser.value = "")));
  watchDrops(take);
  const addItems = (ids) => {
    const more = ids.filter((id) => !state().terms.some((term) => "item" in term && term.item === id)).map((id) => ({ item: id, weight: 1 }));
    if (more.length) setTerms([...state().terms, ...more].slice(0, MOST_TERMS));
  };
  watchDrags(form, addItems);

  const show = () => {
    const now = state();
    if (document.activeElement !== input || input.value.trim() !== now.q.trim()) input.value = now.q;
    terms.replaceChildren(...now.terms.map((term, k) => termChip({
      term, host,
      change: (weight) => go({ terms: state().terms.map((each, n) => (n === k ? { ...each, weight } : each)) }, { replace: true }),
      drop: () => setTerms(state().terms.filter((_, n) => n !== k)),
    })));
    own.hidden = !now.q || (!now.terms.length && now.weight === 1);
    own.textContent = `× ${now.weight}`;
    own.setAttribute("aria-label", `Weight of the words: ${now.weight}`);
    clear.hidden = !termsOf(now).length && !input.value;
    input.placeholder = now.terms.length ? "and words" : "Search by words or a picture";
  };
  return { show, focus: () => (input.focus(), input.select()), addItems };
}

/** Recent searches below the box, by the arrow keys or a click. */
function suggestionList(host, input, choose) {
  const element = h("div.suggestions", { hidden: true });
  const options = h("div", { role: "listbox", id: "suggestions", "aria-label": "Recent searches" });
  const foot = h("div.foot", {}, button("", "Forget these", () => (forgetSearches(), close()), { text: true, kind: "plain" }));
  element.append(options, foot);
  let chosen = -1;

  const mark = (to) => {
    const all = [...options.children];
    chosen = all.length ? (to + all.length + 1) % (all.length + 1) : -1;
    if (chosen === all.length) chosen = -1;
    all.forEach((each, k) => each.setAttribute("aria-selected", String(k === chosen)));
    if (chosen >= 0) input.setAttribute("aria-activedescendant", all[chosen].id);
    else input.removeAttribute("aria-activedescendant");
  };
  const update = () => {
    const found = suggestions(input.value);
    options.replaceChildren(...found.map((words, k) => h("div", { role: "option", id: `suggestion-${k}`, "aria-selected": "false", "data-words": words },
      icon("recent"), h("span.words", {}, words))));
    mark(-1);
    element.hidden = !found.length;
    input.setAttribute("aria-expanded", String(found.length > 0));
  };
  const close = () => {
    element.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    chosen = -1;
  };
  options.addEventListener("pointerdown", (event) => event.preventDefault());
  options.addEventListener("click", (event) => {
    const found = event.target.closest("[role=option]");
    if (found) choose(found.dataset.words);
  });
  input.addEventListener("focus", () => !input.value && update());
  input.addEventListener("click", () => element.hidden && update());
  host.addEventListener("focusout", (event) => !host.contains(event.relatedTarget) && close());
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowUp" && element.hidden) update();
    else if (!element.hidden && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      mark(event.key === "ArrowDown" ? chosen + 1 : chosen < 0 ? options.children.length - 1 : chosen - 1);
    } else if (event.key === "Enter" && chosen >= 0) choose(/** @type {HTMLElement} */ (options.children[chosen]).dataset.words);
    else if (event.key === "Escape" && chosen >= 0) close();
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  });
  return { element, update, close };
}
