// Dialogs: one frame for all. The browser keeps the focus inside, closes on Escape and gives the focus back.

import { button, h } from "./dom.js";

let numbered = 0;

/**
 * Open a dialog. `fill(close)` returns its content.
 * @param {string} title
 * @param {(close: () => void) => any} fill
 */
export function dialog(title, fill, { wide = false, closed = () => {} } = {}) {
  const id = `dialog-${++numbered}`;
  const before = document.activeElement;
  const box = h(`dialog${wide ? ".wide" : ""}`, { "aria-labelledby": id });
  const close = () => box.close();
  const head = h("div.dialog-head", {}, h("h2", { id }, title), button("close", "Close", close, { kind: "plain" }));
  box.append(head, h("div.dialog-body", {}, fill(close)));
  box.addEventListener("click", (event) => event.target === box && close());
  box.addEventListener("close", () => {
    box.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
    closed();
  });
  document.body.append(box);
  box.showModal();
  box.querySelector("[autofocus]")?.focus();
  return { box, close };
}

/** Ask for a line of text. Resolves to null if nothing was given. @returns {Promise<string|null>} */
export function askFor(title, label, { value = "", action = "Save", more = null } = {}) {
  return new Promise((resolve) => {
    let answer = null;
    const input = h("input.input", { value, autofocus: true, maxlength: 200, required: true });
    dialog(title, (close) => {
      const done = (event) => {
        event.preventDefault();
        answer = input.value.trim() || null;
        close();
      };
      return h("form", { onsubmit: done, style: { display: "grid", gap: "16px" } },
        h("label.field", {}, h("span", {}, label), input), more,
        h("div.dialog-foot", {}, button("", "Cancel", close, { text: true }), button("", action, null, { text: true, kind: "main", type: "submit" })));
    }, { closed: () => resolve(answer) });
    input.select();
  });
}

/** A menu below a button. @param {[string, string, () => void][]} entries icon, label, action */
export function menu(anchor, entries, iconOf) {
  const place = anchor.getBoundingClientRect();
  const list = h("div.menu", { role: "menu" });
  const close = (back = true) => {
    list.remove();
    anchor.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside, true);
    if (back) anchor.focus();
  };
  const outside = (event) => !list.contains(event.target) && close(false);
  for (const [name, label, run] of entries) {
    list.append(h("button", { type: "button", role: "menuitem", onclick: () => (close(), run()) }, iconOf(name), label));
  }
  list.addEventListener("keydown", (event) => {
    const all = [...list.children];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) all[(all.indexOf(document.activeElement) + step + all.length) % all.length].focus();
    else if (event.key === "Escape" || event.key === "Tab") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  (anchor.closest("dialog") ?? document.body).append(list);
  const fixed = anchor.closest("dialog") !== null;
  list.style.position = fixed ? "fixed" : "absolute";
  const below = place.bottom + list.offsetHeight + 8 < innerHeight;
  const top = below ? place.bottom + 4 : Math.max(4, place.top - list.offsetHeight - 4);
  list.style.top = `${top + (fixed ? 0 : scrollY)}px`;
  list.style.left = `${Math.max(8, Math.min(place.left, innerWidth - list.offsetWidth - 8))}px`;
  anchor.setAttribute("aria-expanded", "true");
  document.addEventListener("pointerdown", outside, true);
  list.firstElementChild.focus();
}
