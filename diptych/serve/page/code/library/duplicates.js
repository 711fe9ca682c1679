// Duplicates side by side. Nothing is deleted: what is marked becomes a list to copy or to download.

import { cancelled, computed, thumbnail, withParameters } from "../api.js";
import { button, count, h, icon, say, toast } from "../dom.js";
import { copyText, download } from "../selection/exports.js";
import { go } from "../state.js";
import { bytes, day } from "../viewer/details.js";

const GROUPS = 30;
const ENDING = 14;
const UNREAD = (number) => `${count(number, "picture")} could not be read. There the model's view of them decides, so some that are merely alike may be among them.`;
const CONTROL = /[\0-\x1f]/g;
const LEFTWARD = /[\u0590-\u08ff\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc]|[\ud802\ud803\ud83a\ud83b]/;

/**
 * A path on one line: where it is too long, its middle is left out, since names of a series differ at their ends. One with
 * letters that run from right to left stays in one piece, as two pieces would stand in the wrong order.
 */
function pathLine(path) {
  const letters = [...path.replace(CONTROL, (letter) => String.fromCharCode(0x2400 + letter.charCodeAt(0)))];
  if (LEFTWARD.test(path)) return h("p.path", { title: path }, h("span", {}, letters.join("")));
  return h("p.path", { title: path }, h("span", {}, letters.slice(0, -ENDING).join("")), h("span", {}, letters.slice(-ENDING).join("")));
}

export class Duplicates {
  constructor() {
    this.list = null;
    this.marked = new Map();
    this.running = new AbortController();
    this.title = h("h1", {}, "Duplicates");
    this.progress = h("div.empty", { hidden: true, role: "status" });
    this.note = h("div");
    this.groups = h("ol.groups");
    this.end = h("div", { style: { height: "1px" } });
    this.slider = h("input", { type: "range", min: 0.8, max: 1, step: 0.01, style: { width: "140px" } });
    this.read = h("output.numbers.small");
    this.slider.addEventListener("input", () => (this.read.textContent = this.slider.value));
    this.slider.addEventListener("change", () => go({ threshold: Number(this.slider.value) }, { replace: true }));
    this.foot = h("div.actions", {});
    const likeness = h("label.check.small", {}, "Likeness from", this.slider, this.read);
    this.element = h("section", { "aria-label": "Duplicates" }, h("div.view-head.loose", {}, this.title, h("div.actions", {}, likeness, this.foot)),
      this.note, this.progress, this.groups, this.end);
    new IntersectionObserver(([seen]) => seen.isIntersecting && this.next !== null && this.more(), { rootMargin: "1200px" }).observe(this.end);
    this.next = null;
  }

  show(now) {
    this.slider.value = String(now.threshold);
    this.read.textContent = String(now.threshold);
    this.marks();
    if (this.shown === now.threshold) return;
    this.shown = now.threshold;
    this.running.abort();
    this.running = new AbortController();
    this.groups.replaceChildren();
    this.note.replaceChildren();
    this.busy = false;
    this.next = 0;
    this.more();
  }

  hide() {
    if (this.busy) {
      this.running.abort();
      this.shown = null;
    }
  }

  async more() {
    if (this.busy || this.next === null) return;
    this.busy = true;
    const { signal } = this.running;
    try {
      const path = withParameters("duplicates", { threshold: this.shown, offset: this.next, limit: GROUPS });
      const answer = await (await computed(path, { signal, progress: (done, total) => this.wait(done, total) })).json();
      this.add(answer);
    } catch (error) {
      if (cancelled(error)) return;
      this.next = null;
      this.tell(icon("caution"), h("h2", {}, "That did not work"), h("p", {}, error.message));
    }
    this.busy = false;
  }

  wait(done, total) {
    this.tell(h("h2", {}, "Comparing all pictures"), total > 0 && h("progress", { max: total, value: done, "aria-label": "Comparing" }));
  }

  tell(...what) {
    this.progress.hidden = false;
    this.progress.replaceChildren(...what.filter(Boolean));
  }

  add(answer) {
    if (this.next === 0) say(count(answer.total, "group of duplicates", "groups of duplicates"));
    this.title.replaceChildren("Duplicates ", h("span.soft.small.numbers", { style: { "font-weight": "400" } }, count(answer.total, "group")));
    this.next = answer.next_offset;
    this.progress.hidden = true;
    this.note.replaceChildren(...(answer.unread ? [h("p.kindly", {}, icon("info"), UNREAD(answer.unread))] : []));
    this.groups.append(...answer.groups.map((group) => this.group(group)));
    if (!answer.total) this.tell(icon("check"), h("h2", {}, "No duplicates"), h("p", {}, "No two pictures are as like each other as that."));
  }

  group(group) {
    const kept = group.files.find((file) => file.id === group.keep);
    const others = group.files.filter((file) => file !== kept);
    const copies = [kept, ...others].filter(Boolean).map((file) => this.copy(file, file === kept));
    const all = button("check", "Mark all but the largest", () => {
      for (const { box, file } of copies.slice(1)) box.checked = this.mark(file, true);
    }, { text: true, kind: "plain" });
    return h("li.group", {}, h("header", {}, h("h2", {}, count(group.files.length, "file")), all), h("ul", {}, copies.map((copy) => copy.element)));
  }

  copy(file, largest) {
    const box = h("input", { type: "checkbox", checked: this.marked.has(file.id), onchange: () => (box.checked = this.mark(file, box.checked)) });
    const look = h("button", { type: "button", "aria-label": `Look at ${file.path}`, onclick: () => go({ item: file.id }, { remember: { opened: true } }) },
      file.thumbnail ? h("img", { alt: "", loading: "lazy", decoding: "async", src: thumbnail(file, 640) }) : h("span.unshown", {}, file.name));
    const facts = [file.width && `${file.width} × ${file.height}`, file.size && bytes(file.size), file.taken_at && day(file.taken_at)].filter(Boolean).join(" · ");
    const likeness = largest ? "the most pixels" : file.cosine >= 0.9995 ? "the same" : `${Math.floor(file.cosine * 1000) / 10} % alike`;
    const element = h(`li.copy${largest ? ".kept" : ""}`, { "data-copy": file.id }, look, h("div.about", {},
      pathLine(file.path), h("p.soft.numbers", {}, facts), h("p.soft", {}, likeness), h("label.check", {}, box, "Put on the list")));
    element.classList.toggle("listed", box.checked);
    return { element, box, file };
  }

  /** Put a file on the list or take it off; whether it is on it. A name with a line break would be two lines of it. */
  mark(file, on) {
    if (on && /[\n\r]/.test(file.path)) {
      toast(`“${file.name}” has a line break in its name, so it cannot be put on a list.`);
      return false;
    }
    if (on) this.marked.set(file.id, file.path);
    else this.marked.delete(file.id);
    for (const each of this.groups.querySelectorAll(`[data-copy="${file.id}"]`)) each.classList.toggle("listed", on);
    this.marks();
    return on;
  }

  marks() {
    const text = () => `${[...this.marked.values()].join("\n")}\n`;
    const number = this.marked.size;
    if (!number) return this.foot.replaceChildren();
    this.foot.replaceChildren(h("span.numbers.small", { role: "status" }, `${count(number, "file")} on the list`),
      button("copy", "Copy the list", () => copyText(text()), { text: true }), button("download", "Download", () => this.save(), { text: true }));
  }

  /** The server writes the names as they are on the disk, whatever their bytes. */
  async save() {
    try {
      await download({ items: [...this.marked.keys()], format: "paths" }, "duplicates.txt");
    } catch (error) {
      toast(error.message);
    }
  }

  /** Back from the large view. */
  back(id) {
    const copy = this.groups.querySelector(`[data-copy="${id}"] button`);
    /** @type {HTMLElement|null} */ (copy)?.focus();
  }
}
