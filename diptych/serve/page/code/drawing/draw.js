// Words become pictures: what is typed is drawn, and each picture is seen as it comes out of the noise.

import { cancelled } from "../api.js";
import { button, count, field, h, say } from "../dom.js";
import { empty, go, note, state } from "../state.js";
import { sendAll } from "../search/uploads.js";
import { drawn, pngOf } from "./stream.js";

const EXAMPLES = ["a large red circle above a small blue star", "a green heart to the left of a yellow cross", "a purple triangle on a white ground"];
const MOST = 4;
const number = (name, label, value, more) => field(label, h("input.input", { name, type: "number", value: String(value), required: true, inputmode: "decimal", ...more }));

export class Draw {
  constructor() {
    this.list = null;
    this.drawing = null;
    this.prompt = h("input.input", { name: "prompt", type: "text", maxlength: "500", required: true, autocomplete: "off", enterkeyhint: "go", "aria-label": "What to draw", placeholder: EXAMPLES[0] });
    this.go = button("draw", "Draw", null, { text: true, kind: "main", type: "submit" });
    this.stop = button("close", "Stop", () => this.drawing?.abort(), { text: true, hidden: true });
    this.seed = number("seed", "Seed", 7, { min: "0", max: "4294967296", step: "1" });
    const counts = h("div.segments", { role: "radiogroup", "aria-label": "How many pictures" }, ...[1, 2, 3, MOST].map((each) => h("label", {},
      h("input", { type: "radio", name: "count", value: String(each), checked: each === MOST }), h("span", {}, each))));
    this.form = h("form.draw-form", { onsubmit: (event) => (event.preventDefault(), this.draw()) },
      h("div.draw-words", {}, this.prompt, this.go, this.stop),
      h("div.draw-settings", {},
        h("div.field", {}, h("span", {}, "Pictures"), counts),
        number("guidance", "Guidance", 4, { min: "0", max: "30", step: "0.5" }),
        number("steps", "Steps", 30, { min: "1", max: "100", step: "1" }),
        h("div.draw-seed", {}, this.seed, button("again", "Another seed", () => this.another(), { kind: "plain" })),
        field("Keep away from", h("input.input", { name: "negative", type: "text", maxlength: "500", autocomplete: "off", placeholder: "words" }))));
    this.examples = h("p.draw-examples.soft", {}, "The bundled generator knows plain scenes of one or two shapes:", ...EXAMPLES.map((words) => button("", words, () => ((this.prompt.value = words), this.draw()), { text: true, kind: "plain" })));
    this.progress = h("progress", { "aria-label": "Drawn so far", hidden: true });
    this.problem = h("p.problem", { role: "alert", hidden: true });
    this.pictures = h("ul.drawn", { "aria-label": "Drawn pictures" });
    this.element = h("section.draw", { "aria-label": "Draw" },
      h("div.view-head", {}, h("h1", {}, "Draw")),
      this.form, this.examples, this.problem, this.progress, this.pictures);
  }

  show(now, how) {
    if (how !== "replace" && now.prompt && now.prompt !== this.prompt.value) this.prompt.value = now.prompt;
    if (how === "switch") this.prompt.focus({ preventScroll: true });
  }

  hide() {
    this.drawing?.abort();
  }

  another() {
    this.seed.querySelector("input").value = String(Math.floor(Math.random() * 2 ** 32));
    if (this.prompt.value.trim()) this.draw();
  }

  async draw() {
    if (!this.form.reportValidity()) return;
    this.drawing?.abort();
    const mine = (this.drawing = new AbortController());
    const given = new FormData(this.form);
    const wanted = { prompt: given.get("prompt"), negative: given.get("negative"), ...Object.fromEntries(["guidance", "steps", "seed", "count"].map((name) => [name, Number(given.get(name))])) };
    note({ prompt: wanted.prompt });
    this.begin(wanted);
    try {
      for await (const { name, data } of drawn(wanted, mine.signal)) {
        if (name === "step") this.step(data);
        else this.finish(wanted, data);
      }
    } catch (error) {
      if (!cancelled(error) && this.drawing === mine) this.fail(error);
    }
    if (this.drawing === mine) this.end();
  }

  begin(wanted) {
    this.problem.hidden = this.examples.hidden = true;
    this.progress.hidden = this.stop.hidden = false;
    this.go.hidden = true;
    this.progress.removeAttribute("value");
    this.pictures.setAttribute("aria-busy", "true");
    this.pictures.replaceChildren(...Array.from({ length: wanted.count }, () => h("li", {}, h("canvas.noise", { width: "32", height: "32" }))));
    say("The pictures are being drawn.");
  }

  end() {
    this.drawing = null;
    this.progress.hidden = this.stop.hidden = true;
    this.go.hidden = false;
    this.pictures.removeAttribute("aria-busy");
    for (const unfinished of this.pictures.querySelectorAll("li:not([data-seed])")) unfinished.remove();
  }

  fail(error) {
    this.problem.textContent = error.message;
    this.problem.hidden = false;
  }

  step({ done, total, pictures }) {
    this.progress.max = total;
    this.progress.value = done;
    pictures.forEach((each, index) => paint(this.pictures.children[index].firstElementChild, pngOf(each, "")));
  }

  finish({ prompt }, { pictures }) {
    this.progress.value = this.progress.max;
    pictures.forEach((each, index) => this.card(this.pictures.children[index], prompt, each));
    say(`${count(pictures.length, "picture")} drawn.`);
  }

  card(item, prompt, { seed, picture, clip_score: score }) {
    const file = pngOf(picture, `${prompt.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 60)}-${seed}.png`);
    const canvas = item.firstElementChild;
    canvas.className = "";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${prompt}, seed ${seed}`);
    paint(canvas, file);
    item.dataset.seed = String(seed);
    const about = h("p.small.soft.numbers", {}, score === null ? "" : h("span", { title: "How well the picture fits the words, by the model that searches" }, `CLIP score ${score.toFixed(1)}`), h("span", {}, `seed ${seed}`));
    item.append(about, h("div.draw-actions", {},
      button("download", `Download the picture of seed ${seed}`, () => save(file), { kind: "plain" }),
      button("search", "Search with it", () => searchWith(file), { text: true, kind: "plain", "aria-label": `Search with the picture of seed ${seed}` })));
  }
}

async function paint(canvas, file) {
  const bitmap = await createImageBitmap(file);
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
}

function save(file) {
  const link = h("a", { href: URL.createObjectURL(file), download: file.name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function searchWith(file) {
  const terms = await sendAll([file]);
  if (terms.length) go({ ...empty(), selected: state().selected, terms });
}
