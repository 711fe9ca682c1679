// Labels for a selection, without training: each picture gets the label whose words are nearest.

import { post, thumbnail } from "../api.js";
import { dialog } from "../dialogs.js";
import { button, count, field, h } from "../dom.js";
import { copyText, saveText } from "./exports.js";

const MOST = 5000;
// The probability from which a label is listed, where each is judged by itself: of those of 20 % and more on photographs
// two in five are named by captions, of 50 % three in five, but only an eighth of what captions name reaches that.
const YES = 0.2;
const KEPT = "diptych.labels";

/** @param {any[]} items @param {(items: any[], name: string) => void} album makes an album of some of them */
export function labelDialog(items, album) {
  dialog(`Label ${count(items.length, "picture")}`, () => {
    const labels = h("textarea.input", { rows: 3, placeholder: "dog, cat, people at a table", autofocus: true, enterkeyhint: "go" });
    labels.value = recall();
    const template = h("input.input", { value: "a photo of a {}" });
    const many = h("input", { type: "checkbox" });
    const results = h("div.labelled", { "aria-live": "polite" });
    const run = button("label", "Label", null, { text: true, kind: "main", type: "submit" });
    const send = async (event) => {
      event.preventDefault();
      if (run.hasAttribute("aria-disabled")) return;
      const named = [...new Set(labels.value.split(/[,\n]/).map((each) => each.trim()).filter(Boolean))];
      if (!named.length) return void results.replaceChildren(h("p.problem", {}, "Give at least one label."));
      keep(labels.value);
      run.setAttribute("aria-disabled", "true");
      results.replaceChildren(h("p.soft", {}, "Comparing …"));
      try {
        const answer = await post("classify", {
          pictures: items.slice(0, MOST).map((item) => ({ item: item.id })), labels: named,
          templates: [template.value.includes("{}") ? template.value : "{}"], multi_label: many.checked,
        });
        results.replaceChildren(...grouped(answer, items, album));
      } catch (error) {
        results.replaceChildren(h("p.problem", { role: "alert" }, error.message));
      }
      run.removeAttribute("aria-disabled");
    };
    labels.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      labels.form.requestSubmit();
    });
    return h("div", { style: { display: "grid", gap: "24px" } },
      h("form", { onsubmit: send, style: { display: "grid", gap: "16px" } }, field("Labels, separated by commas", labels),
        h("div.pair", {}, field("Sentence around a label", template), h("label.check", { style: { "align-self": "end" } }, many, "Each label yes or no")),
        h("div.dialog-foot", {}, run)), results);
  }, { wide: true });
}

function grouped(answer, items, album) {
  const byId = new Map(items.map((item) => [item.id, item]));
  const results = answer.results.map((each) => ({ ...each, item: byId.get(each.item) })).filter((each) => each.item);
  const sections = answer.labels.map((label, k) => {
    const has = (each) => (answer.multi_label ? each.probabilities[k] >= YES : each.label === label);
    const mine = results.filter(has).map((each) => ({ ...each, probability: each.probabilities[k] })).sort((a, b) => b.probability - a.probability);
    return mine.length && section(label, mine, album);
  });
  const none = answer.multi_label ? results.filter((each) => each.probability < YES) : [];
  if (none.length) sections.push(section("none of these", none, album));
  const failures = answer.failures.length ? h("p.problem", {}, `${count(answer.failures.length, "picture")} could not be labelled: ${answer.failures[0].detail}`) : null;
  return [table(answer, results), failures, ...sections].filter(Boolean);
}

function section(label, mine, album) {
  const make = button("albums", "Make an album", () => album(mine.map((each) => each.item), label), { text: true, kind: "plain" });
  const shown = mine.slice(0, 60).map(({ item, probability }) => h("li", {},
    item.thumbnail ? h("img", { alt: item.caption || item.name, loading: "lazy", src: thumbnail(item, 160) }) : h("p.unshown", {}, item.name), h("span", {}, `${Math.round(probability * 100)} %`)));
  const rest = mine.length > 60 ? h("p.soft.small", {}, `and ${mine.length - 60} more`) : null;
  return h("section", {}, h("h3", {}, h("span", {}, `${label} (${mine.length})`), make), h("ul", {}, shown), rest);
}

function table(answer, results) {
  const safe = (value) => (/^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value)); // what a spreadsheet would compute
  const cell = (value) => (/[",\n\r]/.test(value) ? `"${safe(value).replaceAll('"', '""')}"` : safe(value));
  const rows = answer.multi_label
    ? [["path", ...answer.labels], ...results.map((each) => [each.item.path, ...each.probabilities.map((one) => one.toFixed(4))])]
    : [["path", "label", "probability"], ...results.map((each) => [each.item.path, each.label, each.probability.toFixed(4)])];
  const text = `${rows.map((row) => row.map(cell).join(",")).join("\n")}\n`;
  return h("div.dialog-foot", {}, h("span.soft", { style: { flex: "1", "align-self": "center" } }, count(results.length, "picture")),
    button("copy", "Copy", () => copyText(text), { text: true }), button("download", "Download as CSV", () => saveText(text, "labels.csv"), { text: true }));
}

function recall() {
  try {
    return localStorage.getItem(KEPT) ?? "";
  } catch {
    return "";
  }
}

function keep(text) {
  try {
    localStorage.setItem(KEPT, text);
  } catch {
    // Then they are typed again.
  }
}
