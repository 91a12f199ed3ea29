// Alerts: what fires and why, what if, a year of them.
import { DAY, HOUR, dm, hms, local, long, midnight, t, when } from "./words.js";
import { $, html, mark, off, put } from "./dom.js";
import { link, q } from "./address.js";
import { ask, firing, house, label, placeOf, state, tidy } from "./house.js";
import { rem, strip } from "./grammar.js";

const kept = { fired: [], begun: null, asked: -Infinity, key: null, curves: new Map(), why: new Map(), trouble: null };
const width = () => { const c = $("#main").clientWidth; return Math.max(200, Math.round((c > 1100 ? c / 2 : c) - 5 * rem())); };

async function remember(s) {
  const key = s.then ? s.now : "now", age = performance.now() - kept.asked; if (s.ask && !s.then || kept.key === key && (s.then && !kept.trouble || age < 5e3) || age < 300) return;
  Object.assign(kept, { asked: performance.now(), key });
  try { const found = await ask(`alerts?from=${Math.round(Math.max(s.now - 365 * DAY, s.now - 365 * DAY))}&to=${Math.round(s.then ? s.now : s.real)}`); Object.assign(kept, found, { trouble: null }); } catch (error) { kept.trouble = error.message; }
  for (const a of firing(s).slice(0, 6)) { evidence(a, s); explain(a, s); }
  redraw();
}
async function evidence(a, s) {
  if (!house.topics[a.topic]?.stored) return; const from = Math.max(Math.min(a.from, s.now) - 3 * HOUR, s.now - 30 * DAY), key = `${a.topic} ${Math.floor(s.now / 60e3)} ${a.from}`;
  if (kept.curves.get(a.name)?.key === key) return;
  try { kept.curves.set(a.name, { key, answer: await ask(`history?topics=${a.topic}&from=${Math.round(from)}&to=${Math.round(s.gone ?? s.now)}&buckets=300`) }); redraw(); } catch { /* the page says so elsewhere */ }
}
/** What the alerts service itself says of it: its rule, what holds it back. */
async function explain(a, s) { if (s.then || s.gone) return; try { const why = await ask(`alerts/${a.name}/why`); kept.why.set(a.name, why); } catch { kept.why.delete(a.name); } }
const KINDS = () => ({ fires: t("fires"), told: t("told"), delivered: t("delivered"), failed: t("failed"), acknowledge: t("acknowledged on this page"), acknowledged: t("acknowledged"), snooze: t("snoozed on this page"), over: t("over") });
const stepsOf = (a, s) => (kept.fired.find(f => f.name === a.name && Math.abs(f.since - a.from) < 2000)?.steps ?? []).filter(x => x.time <= s.now);
const whyOf = (a, s) => { const why = s.then || s.gone ? null : kept.why.get(a.name), steps = stepsOf(a, s), c = kept.curves.get(a.name)?.answer, d = house.topics[a.topic]; return html`<article class="why ${a.acknowledged ? "ack" : ""}" data-key="${a.name}"><h3>${a.text}</h3><small>${s.gone ? `${t("was so at {time}", { time: when(s.gone, s.now) })} · ` : s.then ? `${t("fired then")} · ` : ""}${a.acknowledged ? t("acknowledged") : t("not acknowledged")} · ${t("for {time}", { time: long((s.gone ?? s.now) - a.from) })}</small>${c && c.series[0].t.length > 0 && strip(c, s, width(), null, [a.from], label(a.topic, true))}<dl><dt>${t("Rule")}</dt><dd><code>${a.rule ?? a.name}${why && `: ${why.rule}`}</code></dd>${d && html`<dt>${t("Topic")}</dt><dd>${placeOf(a.topic)} · ${label(a.topic)}</dd>`}<dt>${t("What happened")}</dt><dd><ol class="steps">${steps.length ? steps.map(x => html`<li><time>${hms(x.time)}</time><span>${KINDS()[x.kind] ?? x.kind}${x.text && `: ${x.text}`}</span></li>`) : html`<li><time>${hms(a.from)}</time><span>${t("fires")}</span></li>`}</ol></dd><dt>${t("Holds it back")}</dt><dd>${why?.held_back?.length ? why.held_back.map(x => html`<div>${x}</div>`) : a.acknowledged ? t("Acknowledged: no repeats until it is over.") : a.snoozed_until ? t("Snoozed until {time}.", { time: when(Date.parse(a.snoozed_until), s.now) }) : t("Nothing. It may speak.")}</dd></dl><div class="tools">${!a.acknowledged && html`<button data-act="acknowledge" data-rule="${a.name}" ${off(s.gone || s.then)}>${t("Acknowledge")}</button>`}<button data-act="snooze" data-rule="${a.name}" data-for="1h" ${off(s.gone || s.then)}>${t("Snooze 1 h")}</button><button data-act="snooze" data-rule="${a.name}" data-for="8h" ${off(s.gone || s.then)}>${t("Snooze 8 h")}</button>${d && html`<a href="${link({ view: "history", topics: a.topic, span: "24h" })}" class="lk">${t("Its curve")}</a>`}</div></article>`; };

// ---- a year: each rule a row, each day a column
function yearOf(s) {
  const rules = new Map(); for (const a of kept.fired.filter(a => a.since <= s.now)) rules.set(a.rule, [...(rules.get(a.rule) ?? []), a]);
  for (const [name, a] of Object.entries(house.alerts)) if (!rules.has(a.rule ?? name)) rules.set(a.rule ?? name, []);
  const today = midnight(s.now);
  return html`<table class="grid year"><thead class="vh"><tr><th scope="col">${t("Rule")}</th><th scope="col">${t("Days")}</th><th scope="col">${t("Times")}</th></tr></thead><tbody>${[...rules].map(([rule, list]) => html`<tr><th scope="row"><code>${rule}</code></th><td><svg viewBox="0 0 730 16" width="100%" height="16" preserveAspectRatio="none" aria-hidden="true"><rect width="730" height="16"/>${kept.begun > today - 365 * DAY && html`<rect class="before" width="${Math.max(0, 728 - Math.round((today - midnight(kept.begun)) / DAY) * 2)}" height="16"/>`}${[...new Set(list.map(a => Math.round((midnight(a.since) - today) / DAY)))].map(d => html`<rect class="on" x="${(364 + d) * 2 - 1}" width="4" height="16"/>`)}</svg></td><td class="n">${list.length || html`<span class="soft">${t("never")}</span>`}</td></tr>`)}</tbody></table>${kept.begun && html`<p class="soft">${t("Written down since {time}.", { time: when(kept.begun, s.now) })}</p>`}`;
}

// ---- what if: the alerts' own machine over stored readings
const tried = { rule: null, html: "", days: "1" };
async function tryIt(rule, days) {
  const s = state(), node = $("#would"); if (!rule || !node) return; Object.assign(tried, { rule, days }); node.setAttribute("aria-busy", "true");
  const to = Math.round(s.then ? s.now : s.gone ?? s.now), from = to - days * DAY;
  try {
    const found = await ask(`what-if?rule=${encodeURIComponent(rule)}&from=${from}&to=${to}`), curve = found.topic ? await ask(`history?topics=${found.topic}&from=${from}&to=${to}&buckets=400`) : null;
    tried.html = html`${curve && strip(curve, s, width(), found.limit, found.fired.map(f => f[0]), label(found.topic, true))}<p class="note" id="verdict">${found.fired.length ? t("It would have fired {n} time.|It would have fired {n} times.", { n: found.fired.length }) : t("It would not have fired.")}${found.fired.length > 0 && html` ${found.fired.slice(0, 8).map(f => when(f[0], s.now)).join(", ")}${found.fired.length > 8 && "…"}`} ${found.unseen > 0 && html`<small>${t("{time} of it were not stored: nobody can say.", { time: long(found.unseen) })}</small>`}${!found.whole && html`<small>${t("Looked at until {time}: there are too many readings for one question.", { time: when(found.until, s.now) })}</small>`}${!found.readings && html`<small>${t("Nothing of it is stored in this time.")}</small>`}</p>`;
  } catch (error) { tried.html = html`<p class="note" id="verdict">${error.message}</p>`; }
  const place = $("#would"); if (place) { place.removeAttribute("aria-busy"); put(place, tried.html); }
}

const overOf = s => { const list = kept.fired.filter(a => a.until && a.until <= s.now).slice(0, 60); return list.length ? html`<table class="grid wrap"><thead><tr><th scope="col">${t("What")}</th><th scope="col" class="n">${t("from")}</th><th scope="col" class="n">${t("to")}</th><th scope="col" class="n">${t("for")}</th></tr></thead><tbody>${list.map(a => html`<tr><th scope="row">${a.text || tidy(a.name)}</th><td class="n">${when(a.since, s.now)}</td><td class="n">${when(a.until, s.now)}</td><td class="n">${long(a.until - a.since)}</td></tr>`)}</tbody></table>` : html`<p class="note soft">${t("Nothing.")}</p>`; };
function redraw() { const s = state(), live = $("#firing"); if (!live) return; put(live, firing(s).length ? firing(s).map(a => whyOf(a, s)) : html`<p class="note">${s.gone ? t("Nothing fired when last heard.") : s.then ? t("Nothing fired then.") : t("Nothing fires.")}</p>`); put($("#year"), yearOf(s)); put($("#over"), overOf(s)); }

export function alerts(s, m) {
  if (s.ask) return put(m, html`<h2 class="sec">${t("Alerts")}</h2><p class="void"><span>${t("Asking the house…")}</span></p>`);
  put(m, html`<h2 class="vh">${t("Alerts")}</h2><div class="cols"><div><h2 class="sec">${s.then ? t("Fired then") : t("Firing")}<small>${t("{n} rule|{n} rules", { n: house.rules })}</small></h2><div id="firing" data-own></div></div><div><h2 class="sec">${t("What if")}</h2><form class="tools" id="if"><label for="rule" class="vh">${t("A rule")}</label><input id="rule" name="rule" class="mono" size="38" autocomplete="off" value="${q().get("if") ?? ""}" placeholder="boiler/water/temperature > 76 for 2m"><label for="days" class="vh">${t("How far back")}</label><select id="days">${[1, 7, 30].map(n => html`<option value="${n}" ${String(n) === tried.days ? "selected" : ""}>${t("{n} day|{n} days", { n })}</option>`)}</select><button>${t("Try")}</button></form><div id="would" data-own aria-live="polite"></div><h2 class="sec">${t("A year")}<small>${t("each column a day, the right edge today")}</small></h2><div id="year" data-own></div><h2 class="sec">${t("Over")}</h2><div id="over" data-own></div></div></div>`);
  $("#if").onsubmit = e => { e.preventDefault(); const rule = $("#rule").value.trim(); history.replaceState(null, "", link({ if: rule || null })); tryIt(rule, $("#days").value); };
  redraw(); if (q().get("if") && tried.rule !== q().get("if")) tryIt(q().get("if"), tried.days); else if (tried.rule) put($("#would"), tried.html);
}
export const followAlerts = s => { remember(s); if (!s.then && !s.gone) redraw(); };
export { dm, local, mark };
