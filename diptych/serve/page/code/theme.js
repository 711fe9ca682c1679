// Before the first paint: the theme that was chosen here earlier. A classic script, so that nothing flashes.
"use strict";
try {
  const chosen = localStorage.getItem("diptych.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be switched off; the system's theme is right then.
}
