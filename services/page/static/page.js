// The page: which view is shown, and what is touched when something changes.
import { t, iso } from "./words.js";
import { $, $$, become } from "./dom.js";
import { go, onGo, past, q } from "./address.js";
import { ask, house, isShut, listen, on, open, play, state, travel, watch } from "./house.js";
import { freshen, narrow, touchRows } from "./grammar.js";
import { remember, draw } from "./boiler.js";
import { count, fires, now } from "./now.js";
import { followHistory, history as historyView, leaveHistory } from "./history.js";
import { alerts, followAlerts } from "./alerts.js";
import { followProof, proof } from "./proof.js";
import { heard, login, services } from "./services.js";
import { big, kiosk, meters } from "./kiosk.js";
import { key } from "./key.js";
import { enter, forget, register } from "./passkeys.js";
import { NAMES, frame, touchFrame } from "./frame.js";

const VIEWS = { now, history: historyView, alerts, meters, proof, services, key, login, kiosk };
const viewName = () => isShut() ? "login" : q().has("kiosk") ? "kiosk" : VIEWS[q().get("view")] ? q().get("view") : "now";
let shown = null, sign = "";

/** What changes the whole page: the view, whether it lives, whether it is past. */
const signOf = s => [viewName(), s.then && s.now, s.gone, s.ask, s.stream, location.search].join("|");
function show() {
  const s = state(), view = viewName(), m = $("#main");
  if (shown === "history" && view !== "history") leaveHistory();
  if (shown !== view) m.replaceChildren(); m.dataset.view = view;
  if (s.then) travel(s.now);
  frame(s, view); VIEWS[view](s, m, show); shown = view; sign = signOf(s);
  document.title = `${s.gone ? `(${t("no broker")}) ` : ""}${s.then ? t("Then") : NAMES()[view] ?? t("Constellation")} · ${t("Constellation")}`;
  follow(s);
}
/** Ask for what the view needs of the archive, where it is time. */
function follow(s) {
  if (shown === "now" || shown === "kiosk") { if (house.ready) { freshen(s); remember(s); count(s); } }
  else if (shown === "history") followHistory(s); else if (shown === "alerts") followAlerts(s); else if (shown === "proof") followProof(s);
}
function tick() {
  watch();
  play();
  const s = state();
  if (signOf(s) !== sign) { show(); return; }
  touchFrame(s); if (s.then && s.ask) travel(s.now); if (s.ask) return;
  touch(s); if (!s.gone) follow(s);
}
/** Touch what readings change. */
function touch(s) {
  if (s.then) return;
  if (shown === "now") { touchRows(s); derived(s); }
  if (shown === "kiosk") for (const n of $$(".big")) become(n, big(n.dataset.k, s));
  if (shown === "kiosk") derived(s);
  if (shown === "services") services(s, $("#main"));
}
let drawnAt = 0;
/** What follows from values: cells, the boiler's sentence, meters. Drawn with the view, at most each second. */
function derived(s) { if (performance.now() - drawnAt < 950) return; drawnAt = performance.now(); if (!$("#main details[open]:focus-within")) VIEWS[shown](s, $("#main")); draw(); }

on("house", show); on("lost", show);
on("values", names => { const s = state(); if (s.then || s.ask) return; if (shown === "now") touchRows(s); else if (shown === "kiosk") for (const n of $$(".big")) if (names.includes(n.dataset.k)) become(n, big(n.dataset.k, s)); });
on("alerts", () => { const s = state(); if (s.then) return; const n = $(".fires"); if (n) become(n, fires(s)); frame(s, shown); if (shown === "alerts") followAlerts(s); });
on("services", () => { if (shown === "services") services(state(), $("#main")); });
on("log", () => { if (shown === "services") services(state(), $("#main")); });
on("tick", () => { const s = state(); if (signOf(s) !== sign) show(); });
onGo(show);

const speak = text => { $("#speaks").textContent = text; const n = $("#told"); n.textContent = text; n.hidden = !text; clearTimeout(speak.wait); speak.wait = setTimeout(() => { n.hidden = true; }, 6000); };
async function act(button) {
  const { act: verb, rule, instance } = button.dataset, path = rule ? `alerts/${rule}/${verb}` : `services/${instance}/${verb}`;
  if (!house.me.name) { go({ view: "login", kiosk: null }); return; }
  if (verb === "remove") { changeMeters(instance, { remove: button.dataset.meter }); return; }
  button.disabled = true;
  try { await ask(path, verb === "snooze" ? { for: button.dataset.for } : {}); speak(t("{what}: done", { what: button.getAttribute("aria-label") ?? button.textContent })); }
  catch (error) { speak(error.message); }
  button.disabled = false;
}
/** Ask a receiver to listen to a meter, or no more; its answer stands below its list. */
async function changeMeters(instance, change) { try { const answers = await ask(`services/${instance}/meters`, change); heard(instance, answers); return true; } catch (error) { heard(instance, [{ error: error.message }]); return false; } }
addEventListener("click", e => {
  const a = e.target.closest("a[href^='?']"), button = e.target.closest("button");
  if (a && !e.ctrlKey && !e.metaKey && !e.shiftKey) { e.preventDefault(); history.pushState(null, "", a.getAttribute("href")); show(); $("#main").focus({ preventScroll: true }); scrollTo(0, 0); }
  else if (button?.dataset.act) act(button);
  else if (button?.dataset.passkey === "enter") enter().then(entered, wrong);
  else if (button?.dataset.passkey === "forget") forget(button.dataset.id).then(() => ask("me")).then(me => { house.me = me; show(); speak(t("{what}: done", { what: button.getAttribute("aria-label") })); }, error => speak(error.message));
  else if (button && "logout" in button.dataset) ask("logout", {}).then(me => { house.me = me; show(); }, error => speak(error.message));
});
const wrong = error => { const n = $("#wrong"); if (n) n.textContent = error.message; };
const entered = me => { house.me = me; open(); go({ view: "services" }, true); };
addEventListener("submit", async e => {
  if (e.target.id === "passkey") { e.preventDefault(); const form = e.target; register(new FormData(form).get("name")).then(() => { form.reset(); show(); speak(t("{what}: done", { what: t("Register a passkey") })); }, error => speak(error.message)); return; }
  if (e.target.matches("form.listen")) { e.preventDefault(); const form = e.target, add = Object.fromEntries(new FormData(form)); if (await changeMeters(form.dataset.instance, { add })) form.reset(); return; }
  if (e.target.id !== "login") return; e.preventDefault(); const data = new FormData(e.target);
  ask("login", { name: data.get("name"), password: data.get("password") }).then(entered, wrong);
});
addEventListener("popstate", show);
addEventListener("keydown", e => {
  if (/INPUT|SELECT|TEXTAREA/.test(e.target.tagName) || e.ctrlKey || e.metaKey || e.altKey) return;
  const v = Object.keys(NAMES())[+e.key - 1];
  if (v) go({ view: v, kiosk: null }); else if (e.key === "t") go({ at: past() !== null ? null : iso(state().real - 12 * 36e5) }); else if (e.key === "?") go({ view: "key" });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show()); narrow.addEventListener("change", () => show());
let wait; addEventListener("resize", () => { clearTimeout(wait); wait = setTimeout(draw, 120); });
navigator.serviceWorker?.register("sw.js").catch(() => {});

show();
ask("me").then(me => { house.me = me; if (!me.may_look) { go({ view: "login" }, true); } ask("log").then(log => { house.log = log; }, () => {}); show(); }, () => {});
listen();
setInterval(tick, 1000);
