// Services: health, last error, log; pause, resume, read and reload behind the login.
import { dm, hm, hms, t, when, DAY } from "./words.js";
import { html, mark, off, put } from "./dom.js";
import { link } from "./address.js";
import { house, now } from "./house.js";

const LOOK = { running: "live", degraded: "late", paused: "paused", starting: "ask", stopping: "ask" };
/** How a service is: its health is believed for three beats after it was heard. */
function standing(v, s) {
  const h = v.health, until = v.heard ? v.heard + 3.5e3 * (h?.beat ?? 30) : 0;
  if (s.gone) return { mark: "was", text: t("was {value}", { value: t(v.status === "online" && h ? h.state : "offline") }), dead: true };
  if (v.status !== "online") return { mark: h || v.status ? "silent" : "never", text: v.status ? t("offline") : h ? t("offline") : t("never seen"), dead: true };
  if (!h || s.now > until) return { mark: "silent", text: t("silent"), dead: true };
  return { mark: LOOK[h.state] ?? "late", text: t(h.state), dead: false };
}
const KINDS = { sources: "source", subscribers: "subscriber" };
export function services(s, m) {
  if (s.then || s.ask) return put(m, html`<h2 class="sec">${t("Services")}</h2><p class="void"><span>${s.then ? t("The health of services is not kept: nobody can say how it stood at {time}. Values, phases and alerts can.", { time: hm(s.now) }) : t("Asking the house…")}</span></p>`);
  const may = house.me.name !== null && !s.gone;
  put(m, html`<h2 class="vh">${t("Services")}</h2><h2 class="sec">${t("Services")}<small>${house.me.name ? html`${t("logged in as {name}", { name: house.me.name })} <button data-logout>${t("Log out")}</button>` : html`<a class="lk" href="${link({ view: "login" })}">${t("Log in")}</a> ${t("to change something")}`}</small></h2><div class="wide" tabindex="0" role="region" aria-label="${t("Services")}"><table class="grid services"><thead><tr><th scope="col">${t("Name")}</th><th scope="col">${t("State")}</th><th scope="col" class="n">${t("since")}</th><th scope="col" class="n">${t("starts")}</th><th scope="col">${t("Version")}</th><th scope="col">${t("Last error")}</th><th scope="col"><span class="vh">${t("Acts")}</span></th></tr></thead><tbody>${Object.entries(house.services).map(([name, v]) => { const st = standing(v, s), h = v.health ?? {}, paused = h.state === "paused", error = h.last_error; return html`<tr data-key="${name}" class="${st.dead ? "dead" : ""}"><th scope="row"><b>${name}</b> <small>${v.service === name ? t(KINDS[v.section]) : v.service}</small></th><td><span class="st">${mark(st.mark)} ${st.dead ? html`<i>${st.text}</i>` : st.text}</span></td><td class="n">${h.since && !st.dead ? when(Date.parse(h.since), s.now) : "—"}</td><td class="n">${h.start ?? "—"}</td><td class="soft">${h.version ?? ""}</td><td class="soft err">${error ? html`${error.text} <small>${when(Date.parse(error.time), s.now)}</small>` : ""}</td><td><div class="acts">${v.section === "sources" && html`<button data-act="${paused ? "resume" : "pause"}" data-instance="${name}" ${off(!may || st.dead)} aria-label="${paused ? t("Resume {name}", { name }) : t("Pause {name}", { name })}">${paused ? t("Resume") : t("Pause")}</button><button data-act="read" data-instance="${name}" ${off(!may || st.dead)} aria-label="${t("Read {name}", { name })}">${t("Read")}</button>`}<button data-act="reload" data-instance="${name}" ${off(!may || st.dead)} aria-label="${t("Reload {name}", { name })}">${t("Reload")}</button></div></td></tr>`; })}</tbody></table></div>
    <h2 class="sec">${t("Log")}<small>${t("warnings and worse, while this page's service ran")}</small></h2>${house.log.length ? html`<div class="wide" tabindex="0" role="region" aria-label="${t("Log")}"><table class="grid log"><tbody>${house.log.slice(0, 60).map(l => html`<tr><td class="soft">${now() - l.time > DAY ? dm(l.time) : ""} ${hms(l.time)}</td><th scope="row">${l.service}</th><td>${l.text}</td></tr>`)}</tbody></table></div>` : html`<p class="note soft">${t("Nothing.")}</p>`}`);
}
export function login(s, m) {
  put(m, html`<h2 class="sec">${t("Log in")}</h2>${house.me.name ? html`<p>${t("logged in as {name}", { name: house.me.name })} <button data-logout>${t("Log out")}</button></p>` : html`<form id="login" class="login"><label for="name">${t("Name")}</label><input id="name" name="name" autocomplete="username" required><label for="password">${t("Password")}</label><input id="password" name="password" type="password" autocomplete="current-password" required><button>${t("Log in")}</button><p id="wrong" role="alert"></p></form>${!house.me.people && html`<p class="soft">${t("Nobody has a password yet:")} <code>sudo constellation password web NAME</code></p>`}`}`);
}
