// Where callers need keys: asks for one, and keeps it as long as the tab is open.

import * as api from "./api.js";

const at = (id) => document.getElementById(id);
let then = () => {};

/** Says who is calling, or asks for a key if nobody may call without one. Throws what else is wrong. */
export async function knowsUs() {
  try {
    const me = await api.whoami();
    document.body.dataset.role = me.role;
    at("who").hidden = me.access === "open";
    at("who-name").textContent = me.name ?? "";
    return me;
  } catch (error) {
    if (!(error instanceof api.Refused) || error.status !== 401) throw error;
    askKey(error.message);
    return null;
  }
}

/** Asks for another key, and says why. */
export function askKey(why) {
  if (at("key").open) return;
  at("key-problem").textContent = api.hasKey() ? why : "";
  at("key-problem").hidden = !api.hasKey();
  at("key-text").value = "";
  at("key").showModal();
}

/** Does `known` whenever there is a new key. */
export function listen(known) {
  then = known;
  at("key").querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    api.setKey(at("key-text").value.trim());
    at("key").close();
    then();
  });
  // Without a key there is nothing behind the dialog.
  at("key").addEventListener("cancel", (event) => event.preventDefault());
  at("sign-out").addEventListener("click", () => {
    api.setKey("");
    location.reload();
  });
}
