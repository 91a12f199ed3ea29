// Passkeys: to log in by one, to register one, to forget one. The browser makes and uses them; the house verifies what it says.
import { t, when } from "./words.js";
import { html } from "./dom.js";
import { ask, house, now } from "./house.js";

const bytes = text => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), c => c.charCodeAt(0));
const text = buffer => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
/** Whether this browser can, here: it wants TLS or localhost, and a name. */
const can = () => isSecureContext && "PublicKeyCredential" in window && !/^[\d.]+$|:/.test(location.hostname);
const offered = () => house.me.passkeys && can();

let mine = null;                                             // those of whoever is logged in, by whose name they were asked for
/** What the authenticator did, or the reason in words: a browser says little of why it did not. */
async function asked(way, publicKey) { try { return await navigator.credentials[way]({ publicKey }); } catch (error) { throw new Error(error.name === "InvalidStateError" ? t("This device has one already.") : t("No passkey came from this device.")); } }

/** Log in by whichever passkey the person chooses; what the house says of who that is. */
export async function enter() {
  const wanted = await ask("passkeys/login/begin", {}), { id, response: r } = await asked("get", { ...wanted, challenge: bytes(wanted.challenge) });
  return ask("passkeys/login", { id, response: { clientDataJSON: text(r.clientDataJSON), authenticatorData: text(r.authenticatorData), signature: text(r.signature), userHandle: r.userHandle ? text(r.userHandle) : "" } });
}
export async function register(name) {
  const wanted = await ask("passkeys/begin", {});
  const { id, response: r } = await asked("create", { ...wanted, challenge: bytes(wanted.challenge), user: { ...wanted.user, id: bytes(wanted.user.id) }, excludeCredentials: wanted.excludeCredentials.map(one => ({ ...one, id: bytes(one.id) })) });
  take(await ask("passkeys", { name, credential: { id, response: { clientDataJSON: text(r.clientDataJSON), attestationObject: text(r.attestationObject) } } }));
}
export async function forget(id) { take(await ask("passkeys/remove", { id })); }
const take = list => { mine = { of: house.me.name, list }; };
/** Fetch the list where it is not here yet; `shown` draws it. */
function follow(shown) { if (mine?.of === house.me.name) return; mine = { of: house.me.name, list: [] }; ask("passkeys").then(list => { take(list); shown(); }, () => {}); }

export const button = () => (mine = null, offered()) && html`<p class="passkey"><button data-passkey="enter">${t("Log in with a passkey")}</button></p>`;
/** What stands below the name of who is logged in; or why there are none here. */
export function passkeys(shown) {
  if (!house.me.passkeys) return html`<p class="soft">${t("Passkeys are not offered: this house lacks their library.")} <code>${"pip install 'constellation[passkeys]'"}</code></p>`;
  if (!can()) return html`<p class="soft">${t("Passkeys need TLS and a name, or localhost: this page was opened without.")}</p>`;
  follow(shown);
  return html`<h2 class="sec">${t("Passkeys")}<small>${t("to log in without the password; another password ends them all")}</small></h2>${mine.list.length ? html`<table class="grid wrap"><thead><tr><th scope="col">${t("Name")}</th><th scope="col" class="hide-s">${t("reached as")}</th><th scope="col" class="n hide-s">${t("made")}</th><th scope="col" class="n">${t("last used")}</th><th scope="col"><span class="vh">${t("Acts")}</span></th></tr></thead><tbody>${mine.list.map(one => html`<tr data-key="${one.id}"><th scope="row">${one.name}</th><td class="hide-s">${one.host}</td><td class="n hide-s">${when(one.made, now())}</td><td class="n">${one.used ? when(one.used, now()) : "—"}</td><td><div class="acts"><button data-passkey="forget" data-id="${one.id}" aria-label="${t("Remove passkey {name}", { name: one.name })}">${t("Remove")}</button></div></td></tr>`)}</tbody></table>` : html`<p class="note soft">${t("Nothing.")}</p>`}<form class="tools" id="passkey"><label>${t("Name of the new one")} <input name="name" size="20" maxlength="40" required autocomplete="off"></label><button>${t("Register a passkey")}</button></form>`;
}
