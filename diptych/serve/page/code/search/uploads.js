// Pictures to search by: chosen, dropped or pasted. They are sent once; the service names them by their bytes.

import { request } from "../api.js";
import { at, say, toast } from "../dom.js";
import { noteUpload } from "./terms.js";

const MOST = 4;

/** @param {Iterable<File>} files @returns {Promise<{upload: string, weight: number}[]>} */
export async function sendAll(files) {
  const pictures = [...files].filter((file) => file.type.startsWith("image/") || /\.(heic|heif|jxl|tiff?|avif|cr2|nef|arw|dng)$/i.test(file.name));
  if (!pictures.length) {
    toast("That is no picture.");
    return [];
  }
  if (pictures.length > MOST) toast(`The first ${MOST} pictures are used.`);
  say("The picture is being read.");
  const sent = await Promise.all(pictures.slice(0, MOST).map(send));
  return sent.filter((each) => each !== null);
}

async function send(file) {
  try {
    const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
    const answer = await (await request("uploads", { body: file, type })).json();
    noteUpload(answer.id, `${answer.thumbnail}?width=160`);
    return { upload: answer.id, weight: 1 };
  } catch (error) {
    toast(`${file.name}: ${error.message.replace("the picture: ", "")}`);
    return null;
  }
}

/** Whole-page drop, and paste anywhere but into other fields. @param {(files: File[]) => void} take */
export function watchDrops(take) {
  const shown = at("drop");
  const files = (data) => [...(data?.files ?? [])];
  let depth = 0;
  const over = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => over(event) && (depth++, (shown.hidden = false)));
  addEventListener("dragleave", (event) => over(event) && --depth <= 0 && ((depth = 0), (shown.hidden = true)));
  addEventListener("dragover", (event) => over(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    depth = 0;
    shown.hidden = true;
    if (!files(event.dataTransfer).length) return;
    event.preventDefault();
    take(files(event.dataTransfer));
  });
  addEventListener("paste", (event) => {
    const pasted = files(event.clipboardData);
    if (!pasted.length) return;
    event.preventDefault();
    take(pasted);
  });
}
