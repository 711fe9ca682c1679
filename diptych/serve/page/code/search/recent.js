// The last searches of this browser, kept in it alone.

const KEY = "diptych.recent";
const MOST = 30;

export function recent() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((each) => typeof each === "string") : [];
  } catch {
    return [];
  }
}

export function noteSearch(words) {
  const text = words.trim();
  if (text) keep([text, ...recent().filter((each) => each !== text)].slice(0, MOST));
}

export const forgetSearches = () => keep([]);

function keep(list) {
  try {
    localStorage.setItem(KEY, JSON.stringify(list));
  } catch {
    // Without storage there are no suggestions.
  }
}

/** Those that begin with, or have a word that begins with, what is typed. */
export function suggestions(typed) {
  const text = typed.trim().toLowerCase();
  return recent().filter((each) => each.toLowerCase() !== text && ` ${each.toLowerCase()}`.includes(` ${text}`)).slice(0, 8);
}
