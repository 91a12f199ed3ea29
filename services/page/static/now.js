// The house: what fires, the boiler, then every place with its things.
import { hm, num, plain, t, when } from "./words.js";
import { $, html, mark, off, put } from "./dom.js";
import { link, q } from "./address.js";
import { ask, firing, house, isAlive, label, look, pausedSince, placeOf, shownHouse, state, isGuess } from "./house.js";
import { table } from "./grammar.js";
import { draw, phaseTable, sentence } from "./boiler.js";

const REST = new Set(["duration", "cycles", "runtime", "starts", "signal", "text", "charge", "throughput", "units", "number"]);
const problem = d => ["fault", "alarm", "warning"].includes(d.quantity);

// ---- alerts that fire
export function fires(s) {
  const list = s.ask ? [] : firing(s), dead = s.gone || s.then;
  return html`<section class="fires" aria-label="${t("Alerts that fire")}">${list.length ? list.map(a => html`<div class="fire ${a.acknowledged ? "" : dead ? "dim" : "loud"}" data-key="${a.name}">${mark(a.acknowledged || dead ? "ack" : "loud", s.gone ? t("fired when last heard") : s.then ? t("fired then") : a.acknowledged ? t("acknowledged") : t("fires"))}<strong>${q().has("kiosk") ? a.text : html`<a href="${link({ view: "alerts" })}">${a.text}</a>`}</strong><small>${s.gone ? `${t("was so at {time}", { time: hm(s.gone) })} · ` : s.then ? `${t("fired then")} · ` : ""}${t("since {time}", { time: when(a.from, s.now) })}${a.told?.length && !a.acknowledged ? ` · ${t("told {names}", { names: a.told.join(", ") })}` : ""}${a.acknowledged ? ` · ${t("acknowledged")}` : a.snoozed_until ? ` · ${t("snoozed until {time}", { time: when(Date.parse(a.snoozed_until), s.now) })}` : ""}</small>${a.acknowledged || q().has("kiosk") ? html`<span></span>` : html`<button data-act="acknowledge" data-rule="${a.name}" ${off(dead)}>${t("Acknowledge")}</button>`}</div>`) : html`<div class="fire none">${s.ask ? mark("ask") : html`<span></span>`}<span>${s.ask ? t("Asking what fires…") : s.gone ? t("Nothing fired when last heard.") : s.then ? t("Nothing fired then.") : t("Nothing fires.")}</span><span></span><span></span></div>`}</section>`;
}

// ---- a battery: eight tanks
export function cells(battery, s) {
  const ks = battery.cells.map(key => look(key, s)), values = ks.map(k => typeof k.value === "number" ? k.value : null), known = values.filter(v => v !== null), st = s.ask ? "ask" : s.gone ? "was" : s.then ? "then" : known.length ? ks.some(k => k.state === "late") ? "late" : "live" : "silent";
  const low = known.length ? Math.min(...known) : 0, high = known.length ? Math.max(...known) : 0, mean = known.reduce((a, b) => a + b, 0) / (known.length || 1), bottom = low < 2.9 && known.length ? low - .1 : mean > 3.32 ? 3.2 : 3.0, top = Math.max(bottom + .3, high + .05), Y = v => 54 - (v - bottom) / (top - bottom) * 54, weak = high - low > .02 ? values.indexOf(low) : -1;
  return html`<div class="cells" data-s="${st}" data-n="${battery.cells.length}" role="img" aria-label="${t("Cells")}${s.gone ? `, ${t("last known {time}", { time: hm(s.gone) })}` : ""}: ${values.map((v, i) => `${i + 1} ${v === null ? "—" : `${plain(v, 3)} V`}`).join(", ")}">${values.map((v, i) => html`<div class="cell ${i === weak && !s.ask ? "weak" : ""}" aria-hidden="true"><svg viewBox="0 0 40 54" preserveAspectRatio="none">${v !== null ? html`<rect class="fill" x="0" y="${Y(v).toFixed(1)}" width="40" height="${(54 - Y(v)).toFixed(1)}"/>` : !s.ask && html`<rect class="hole" x="0" y="0" width="40" height="54"/>`}<rect x="0" y="0" width="40" height="54" vector-effect="non-scaling-stroke"/>${known.length > 0 && html`<line x1="0" x2="40" y1="${Y(mean).toFixed(1)}" y2="${Y(mean).toFixed(1)}" vector-effect="non-scaling-stroke"/>`}</svg><b>${v === null ? (s.ask ? "" : "—") : plain(v, 3)}</b><i>${i + 1}</i></div>`)}</div><p class="note">${known.length ? html`${weak >= 0 ? (s.gone || s.then ? t("Cell {n} was {mv} mV below the mean, the spread {spread} mV.", { n: weak + 1, mv: Math.round((mean - low) * 1e3), spread: Math.round((high - low) * 1e3) }) : t("Cell {n} is {mv} mV below the mean, the spread {spread} mV.", { n: weak + 1, mv: Math.round((mean - low) * 1e3), spread: Math.round((high - low) * 1e3) })) : t("The spread is {spread} mV.", { spread: Math.round((high - low) * 1e3) })} <small>${plain(bottom, 1)} – ${plain(top, 1)} V</small>` : s.ask ? "\u00a0" : t("The cells are silent.")}</p>`;
}

// ---- meters: today beside yesterday
const counted = { answer: null, asked: -Infinity, key: null, of: null };
export async function count(s) {
  const key = s.then ? s.now : "now", age = performance.now() - counted.asked; if (s.ask || !house.meters.length || counted.key === key && age < 30e3 || age < 400) return;
  Object.assign(counted, { asked: performance.now(), key });
  try { const found = await ask(`meters${s.then ? `?at=${Math.round(s.now)}` : ""}`); if (counted.key === key) Object.assign(counted, { answer: found, of: key }); } catch { counted.answer = null; }
  const n = $("#meters"); if (n) put(n, meterTable(state()));
}
export function meterTable(s_) {
  const s = { ...s_, ask: s_.ask || counted.of !== (s_.then ? s_.now : "now") };   // what another moment counted is not this one's
  const list = counted.answer?.meters ?? [], cur = counted.answer?.currency ?? "€", cost = list.some(m => m.cost !== null), fig = (v, d) => v === null || v === undefined || s.ask ? "—" : plain(v, Math.min(d, v >= 100 ? 0 : v >= 10 ? 1 : 3));
  if (!house.meters.length) return "";
  const states = house.meters.map(key => look(key, s)), alive = states.some(isAlive), st = s.gone ? "was" : s.then ? "then" : s.ask || !list.length ? "ask" : alive ? "live" : "was";
  return html`<table class="grid meters" data-s="${st}"><thead><tr><th scope="col">${s.gone ? t("Meters, {time}", { time: hm(s.gone) }) : s.then ? t("Meters then") : t("Meters today")}</th><th scope="col"><span class="vh">${t("today beside yesterday")}</span></th><th scope="col" class="n">${t("so far")}</th><th scope="col"><span class="vh">${t("Unit")}</span></th><th scope="col" class="n">${t("yesterday by now")}</th><th scope="col" class="n hide-s hide-k">${t("all of it")}</th>${cost && html`<th scope="col" class="n hide-s">${cur}</th>`}</tr></thead><tbody>${list.map(m => { const dead = !s.then && !s.gone && !isAlive(look(m.topic, s)), top = Math.max(m.yesterday ?? 0, m.today ?? 0, m.yesterday_by_now ?? 0) * 1.02 || 1; return html`<tr data-key="${m.topic}" class="${dead ? "dead" : ""}"><th scope="row">${q().has("kiosk") ? label(m.topic) : html`<a href="${link({ view: "meters" })}">${label(m.topic)}</a>`}</th><td><svg class="bar" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true"><rect class="all" x=".5" y="1" width="${(s.ask ? 0 : m.yesterday ?? 0) / top * 99}" height="12" vector-effect="non-scaling-stroke"/><rect class="part" x="0" y="4" width="${(s.ask ? 0 : m.today ?? 0) / top * 99}" height="6"/>${m.yesterday_by_now !== null && !s.ask && html`<line class="by" x1="${m.yesterday_by_now / top * 99}" x2="${m.yesterday_by_now / top * 99}" y1="-1.5" y2="15.5" vector-effect="non-scaling-stroke"/>`}</svg></td><td class="n"><b>${fig(m.today, m.decimals)}</b></td><td class="soft">${m.unit}</td><td class="n">${fig(m.yesterday_by_now, m.decimals)}</td><td class="n hide-s hide-k">${fig(m.yesterday, m.decimals)}</td>${cost && html`<td class="n hide-s">${m.cost === null || s.ask ? "" : plain(m.cost, 2)}</td>`}</tr>`; })}</tbody></table>`;
}

// ---- places
const note = (sources, s) => s.then ? "" : sources.filter(name => house.services[name]?.section === "sources").map(name => { const p = pausedSince(name, s.now), every = Object.values(house.topics).find(d => d.source === name).every; return p ? t("{name} paused", { name }) : t("{name} every {time}", { name, time: every < 60 ? t("{n} s", { n: every }) : t("{n} min", { n: Math.round(every / 60) }) }); }).concat(sources.some(isGuess) ? [`≈ ${t("clock estimated")}`] : []).join(" · ");
function place(name, keys, s) {
  const batteries = house.batteries.filter(b => b.thing.startsWith(`${name}/`)), inCells = new Set(batteries.flatMap(b => b.cells)), meters = new Set(house.meters), rest = [], things = new Map();
  for (const key of keys) {
    const d = house.topics[key], thing = key.slice(0, key.lastIndexOf("/"));
    if (inCells.has(key) || meters.has(key) || key.endsWith("/phase") && house.boilers.some(b => key === `${b.thing}/phase`)) continue;
    if (REST.has(d.quantity) || problem(d) && look(key, s).value !== true) { rest.push(key); continue; }
    things.set(thing, [...(things.get(thing) ?? []), key]);
  }
  const groups = []; for (const [thing, list] of things) { const last = groups.at(-1); if (list.length === 1 && last && !last.closed && !batteries.some(b => b.thing === thing)) last.keys.push(...list); else groups.push({ thing, keys: list, closed: list.length > 1 }); }
  const sources = [...new Set(keys.map(k => house.topics[k].source))], stored = keys.some(k => house.topics[k].stored), hasMeters = keys.some(k => meters.has(k));
  return html`<section class="place" data-key="${name}"><h2>${placeOf(name)}<small>${stored ? note(sources, s) : t("shown, never stored")}</small></h2>${groups.map(g => html`${table(label(g.keys[0], true), g.keys, s)}${batteries.filter(b => b.thing === g.thing).map(b => cells(b, s))}`)}${batteries.filter(b => !things.has(b.thing)).map(b => cells(b, s))}${hasMeters && placeOf(name) === meterPlace() && html`<div id="meters">${meterTable(s)}</div>`}${rest.length > 0 && html`<details data-key="rest-${name}"><summary>${t("{n} more|{n} more", { n: rest.length })}${calm(rest, s)}</summary>${table(t("{place}, the rest", { place: placeOf(name) }), rest, s)}</details>`}</section>`;
}
const calm = (keys, s) => { const list = keys.filter(k => problem(house.topics[k])); if (!list.length || s.then) return ""; const alive = list.every(k => isAlive(look(k, s))); return html` <small>${alive ? t("no fault among {n}", { n: list.length }) : t("faults: not known")}</small>`; };
const meterPlace = () => { const seen = new Map(); for (const key of house.meters) { const p = placeOf(key); seen.set(p, (seen.get(p) ?? 0) + 1); } return [...seen].sort((a, b) => b[1] - a[1])[0]?.[0]; };

export function now(s, m) {
  const places = new Map(); for (const key of Object.keys(house.topics)) { const p = key.split("/")[0]; places.set(p, [...(places.get(p) ?? []), key]); }
  put(m, html`<h2 class="vh">${t("The house")}</h2>${fires(s)}${house.boilers.length > 0 && html`<div id="say">${sentence(s)}</div><div id="ribbon"></div>`}<div class="now">${[...places].map(([name, keys]) => place(name, keys, s))}</div>${house.boilers.length > 0 && html`<div id="phases">${phaseTable(s)}</div>`}${!house.ready && html`<p class="say soft">${t("Asking the house…")}</p>`}`);
  draw();
}
export { num, shownHouse };
