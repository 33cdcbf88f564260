// Signing in with an API key, and out again. The key is sent once and not kept by the page.

import { h, put } from "./dom.js";
import { me, post } from "./api.js";
import { heading, problem } from "./parts.js";

export function show(page, { signedIn }) {
  const wrong = h("div", {});
  if (me.signed_in) {
    page.append(heading("Sign out"), h("p", {}, `Signed in with the key “${me.name}” (${me.scope}).`),
      h("button", { type: "button", class: "primary", onclick: async () => { try { await post("/v1/sign-out"); location.hash = "#/"; location.reload(); } catch (error) { put(wrong, problem(error)); } } }, "Sign out"), wrong);
    return;
  }
  const key = h("input", { type: "password", name: "key", autocomplete: "current-password", required: true, placeholder: "agk_…", size: 44 });
  page.append(heading("Sign in"), h("p", { class: "faint" }, "This server asks for an API key. One is made with ", h("code", {}, "agentry keys create NAME"), "."),
    h("form", { class: "panel card", onsubmit: async (event) => {
      event.preventDefault();
      try { await post("/v1/sign-in", { key: key.value.trim() }); key.value = ""; history.replaceState(null, "", "#/"); await signedIn(); } catch (error) { put(wrong, problem(error)); key.focus(); }
    } }, h("label", { class: "field" }, "API key", key), wrong, h("div", { class: "row" }, h("button", { class: "primary", type: "submit" }, "Sign in"))));
  key.focus();
}
