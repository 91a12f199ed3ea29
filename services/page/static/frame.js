// Head, bands and foot: where one is, whether the page lives, and the time machine.
import { date, dated, hm, hms, iso, long, midnight, t, MIN, HOUR } from "./words.js";
import { $, $$, html, put } from "./dom.js";
import { go, link, past } from "./address.js";
import { firing, house, player, state, stood } from "./house.js";

export const NAMES = () => ({ now: t("House"), history: t("History"), alerts: t("Alerts"), meters: t("Meters"), proof: t("Proof"), services: t("Services") });
export const pulse = s => { const top = Math.max(6, ...house.beats); return html`<svg width="121" height="16" aria-hidden="true">${house.beats.map((n, i) => s.ask || n === null && !s.gone ? "" : n < 0 || s.gone && i > 59 - Math.min(60, Math.round((s.now - s.gone) / 1e3)) ? html`<rect x="${i * 2}" width="2" height="16" fill="url(#hatch)"/>` : n > 0 && html`<path d="M${i * 2 + .5} 16v-${Math.max(1.5, n / top * 15).toFixed(1)}" stroke="currentColor"/>`)}</svg>`; };
const rate = s => { if (s.then || s.ask) return ""; if (s.gone) return t("no reading for {time}", { time: long(s.now - s.gone) }); const live = house.beats.slice(-30).filter(n => n !== null && n >= 0); return live.length ? t("{n} readings a second", { n: (live.reduce((a, b) => a + b, 0) / live.length).toFixed(1) }) : ""; };

export function frame(s, view) {
  document.body.className = [s.then && "then", s.gone && "nobroker", view === "kiosk" && "kiosk"].filter(Boolean).join(" ");
  const loud = s.ask && !s.then ? 0 : firing({ ...s, then: false }).filter(a => !a.acknowledged).length, kiosk = view === "kiosk";
  for (const name of ["header", "footer"]) $(name).hidden = kiosk;
  put($("header"), html`<h1>${t("Constellation")}</h1><nav aria-label="${t("Views")}">${Object.entries(NAMES()).filter(([k]) => k !== "meters" || house.meters.length).map(([k, w]) => html`<a href="${link({ view: k, kiosk: null })}" ${k === view ? html`aria-current="page"` : ""}>${w}${k === "alerts" && loud > 0 && html`<b>${loud}<span class="vh"> ${t("not acknowledged")}</span></b>`}</a>`)}<a href="${link({ at: iso(s.real - 12 * HOUR), kiosk: null })}">${t("Then…")}</a></nav><div class="pulse"><small id="rate">${rate(s)}</small><span id="pulse">${!s.then && pulse(s)}</span></div><p class="clock"><small>${s.then ? t("now") : date(s.real)}</small><span id="clock">${hms(s.real)}</span></p>`);
  put($("#bands"), html`${s.then && html`<div class="band past" role="region" aria-label="${t("A past moment")}"><strong>${t("Then: {time}", { time: `${dated(s.now)}, ${hms(s.now)}` })}</strong><small>${t("{time} ago. Nothing here is now.", { time: long(s.real - s.now) })}</small>${s.ask && house.ready ? html`<small>${t("Asking the house…")}</small>` : stood.trouble && html`<small>${stood.trouble}</small>`}<label class="vh" for="slide">${t("Moment of the day")}</label><input id="slide" type="range" min="0" max="1439" value="${Math.floor((s.now - midnight(s.now)) / MIN)}">${[[-60, "−1 h"], [-10, "−10 min"], [10, "+10 min"]].map(([n, w]) => html`<button data-step="${n}">${w}</button>`)}${[1, 60, 600].map(x => html`<button data-play="${x}" aria-pressed="${String(player.speed === x)}" aria-label="▶ ${x}×, ${t("play {n} times as fast", { n: x })}">▶ ${x}×</button>`)}<button data-back>${t("Back to now")}</button></div>`}${s.gone && html`<div class="band gone" role="alert" data-key="gone"><span><strong>${s.stream ? t("This page has no line to the house since {time}.", { time: hms(s.gone) }) : t("No word from the broker since {time}.", { time: hms(s.gone) })}</strong></span><span>${t("Below is what was last known. Nothing of it is live.")}</span></div>`}${s.ask && !(s.then && house.ready) && html`<div class="band ask" role="region" aria-label="${t("Loading")}" data-key="ask"><strong>${navigator.onLine === false ? t("There is no network: this page has no line to the house.") : t("Asking the house…")}</strong></div>`}`);
  put($("footer"), html`<span>${house.zone ?? ""}</span><span>topics.yaml ${house.registry ?? ""}</span><a href="${link({ view: "key", kiosk: null })}">${t("How to read this page")}</a><a href="${link({ kiosk: "" })}">${t("Kiosk")}</a><a href="${link({ view: "login" })}">${house.me.name ?? t("Log in")}</a><a href="api/1/openapi.json">API</a><span>${t("Keys: 1–6 views, T then, ? how to read")}</span>`);
  const slide = $("#slide"); if (slide) slide.oninput = () => go({ at: iso(Math.min(state().real, midnight(past()) + slide.value * MIN)) }, true);
  $$("[data-step]").forEach(x => x.onclick = () => go({ at: iso(Math.min(state().real, past() + x.dataset.step * MIN)) }, true));
  $$("[data-play]").forEach(x => x.onclick = () => { Object.assign(player, { speed: player.speed === +x.dataset.play ? 0 : +x.dataset.play, stepped: performance.now() }); go({}, true); });
  const back = $("[data-back]"); if (back) back.onclick = () => { player.speed = 0; go({ at: null }); };
}
/** What moves each second: the clock, the pulse, and how long nothing came. */
export function touchFrame(s) {
  const clock = $("#clock"); if (clock) clock.textContent = hms(s.real); const kclock = $("#kclock"); if (kclock) kclock.textContent = hm(s.real);
  const p = $("#pulse") ?? $(".khead .pulse"); if (p && !s.then) put(p, pulse(s)); const r = $("#rate"); if (r) r.textContent = rate(s);
}
