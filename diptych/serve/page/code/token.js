// A server that is not on this machine alone wants a token once; it keeps it in a cookie that no script can read.

import { request } from "./api.js";
import { dialog } from "./dialogs.js";
import { button, field, h } from "./dom.js";

/** Ask until a token is right. Resolves when it is, or when somebody gives up. */
export function askForToken() {
  return new Promise((resolve) => {
    const input = h("input.input", { type: "password", autocomplete: "current-password", autofocus: true, required: true });
    const problem = h("p.problem", { role: "alert", hidden: true });
    dialog("This library is protected", (close) => {
      const send = async (event) => {
        event.preventDefault();
        try {
          await request("session", { json: { token: input.value } });
          close();
        } catch (error) {
          problem.textContent = error.message;
          problem.hidden = false;
        }
      };
      return h("form", { onsubmit: send, style: { display: "grid", gap: "16px" } }, field("Token", input, "Who started the server has it."), problem,
        h("div.dialog-foot", {}, button("", "Open", null, { text: true, kind: "main", type: "submit" })));
    }, { closed: () => resolve(undefined) });
  });
}
