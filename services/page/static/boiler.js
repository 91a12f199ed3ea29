// The boiler: a sentence, and its day as a timeline of phases.
import { DAY, MIN, hm, hms, long, midnight, nextMidnight, plain, t } from "./words.js";
import { $, html, put, rich } from "./dom.js";
import { ask, firing, house, isAlive, look, on, shownHouse, state, word } from "./house.js";
import { rem } from "./grammar.js";

export const HEIGHT = { unknown: 1, off: 0, prepurge: .22, ignition: .55, combustion: 1, burnout: .42, keep_fire: .14 };
const kept = { topic: null, runs: [], day: null, asked: -Infinity, trouble: null, fired: [] };
const REFRESH = 60e3;

/** Runs of the boiler's phase and the alerts of the shown day, from the archive; now and then anew. */
export async function remember(s) {
  const boiler = house.boilers[0]; if (!boiler || !house.ready) return;
  const topic = `${boiler.thing}/phase`, day = midnight(s.now), key = `${topic} ${day} ${s.then}`, age = performance.now() - kept.asked;
  if (kept.topic === key && age < (kept.trouble ? 10e3 : REFRESH) || age < 400) return;
  const first = kept.topic !== key; Object.assign(kept, { topic: key, asked: performance.now(), day }); if (first) Object.assign(kept, { runs: [], fired: [] });
  const to = Math.max(day + 1000, Math.min(s.then ? nextMidnight(s.now) : s.real, s.real));
  try {
    const [runs, alerts] = await Promise.all([ask(`phases?topic=${topic}&from=${day}&to=${Math.round(to)}`), ask(`alerts?from=${day}&to=${Math.round(to)}`)]);
    if (kept.topic === key) Object.assign(kept, { runs, fired: alerts.fired, trouble: null });
  } catch (error) { kept.trouble = error.message; }
  draw();
}
on("values", names => { const b = house.boilers[0]; if (!b || state().then || !names.includes(`${b.thing}/phase`)) return; const last = kept.runs.at(-1), v = house.values[`${b.thing}/phase`]; if (v?.value && !v.cleared && last && v.value !== last[0] && v.time > last[1]) { last[2] = v.time; kept.runs.push([v.value, v.time, v.time]); draw(); } });

/** Phases of the shown day up to its moment: {phase, from, to}; unknown from where nobody can say. */
export function phases(s) {
  const end = s.gone ?? s.now, boiler = house.boilers[0], day = midnight(s.now);
  if (kept.day !== day || !boiler || s.ask) return [];
  const list = kept.runs.map(([phase, from, to]) => ({ phase, from, to: Math.min(to, end) })).filter(p => p.to > p.from || p === kept.runs.at(-1)), last = list.filter(p => p.from <= end).at(-1), k = look(`${boiler.thing}/phase`, s);
  if (last && !s.then) { if (isAlive(k) || k.state === "was") last.to = Math.max(last.to, end); else if (k.since && k.since > last.from) { last.to = Math.min(last.to, k.since); if (end > last.to) list.push({ phase: "unknown", from: last.to, to: end }); } }
  if (s.gone) list.push({ phase: "unknown", from: s.gone, to: s.now });
  return list.filter(p => p.from < (s.gone ? s.now : end));
}
const firesOf = list => list.filter(p => p.phase === "combustion").length;
const massOf = (name, s) => { const key = `${house.boilers[0].thing}/${name}`, k = house.topics[key] ? look(key, s) : {}; return typeof k.value === "number" ? k.value : null; };

/** What the boiler does, in a sentence. */
export function sentence(s) {
  const boiler = house.boilers[0]; if (!boiler) return "";
  if (s.ask) return html`<p class="say soft">${t("Asking the house…")}</p>`;
  const k = look(`${boiler.thing}/phase`, s), list = phases(s), last = list.filter(p => p.phase !== "unknown" || !s.gone).at(-1), fires = firesOf(list), kg = massOf("day_mass", s), days = massOf("silo_days", s);
  const facts = [kg !== null && t("{kg} kg so far", { kg: plain(kg, 1) }), days !== null && t("pellets for {n} day|pellets for {n} days", { n: Math.round(days) })].filter(Boolean).join(" · "), tail = facts && html` <small>${facts}</small>`;
  const count = fires ? t("{n} fire today|{n} fires today", { n: fires }) : t("no fire today");
  if (s.gone) return html`<p class="say last">${k.value ? t("At {time} the boiler was {phase}. What it does now is not known.", { time: hm(s.gone), phase: word(k.value) }) : t("What the boiler does is not known.")}${tail}</p>`;
  if (k.state === "never" && !last) return html`<p class="say soft">${s.then ? t("What the boiler did is not kept.") : t("Nothing was heard of the boiler yet.")}</p>`;
  if (!k.value || k.value === "unknown" || k.state === "silent" || k.state === "paused") return html`<p class="say">${rich(s.then ? t("What the boiler did is <b>unknown</b> since {time}.", { time: hm(k.since ?? last?.from ?? s.now) }) : t("What the boiler does is <b>unknown</b> since {time}.", { time: hm(k.since ?? last?.from ?? s.now) }))} <small>${count}${facts && ` · ${facts}`}</small></p>`;
  const since = last && last.phase === k.value ? hm(last.from) : null, said = since ? (s.then ? t("The boiler was <b>{phase}</b> since {time}", { phase: word(k.value), time: since }) : t("The boiler is <b>{phase}</b> since {time}", { phase: word(k.value), time: since })) : (s.then ? t("The boiler was <b>{phase}</b>", { phase: word(k.value) }) : t("The boiler is <b>{phase}</b>", { phase: word(k.value) }));
  return html`<p class="say">${rich(said)}${fires > 0 && !s.then && (k.value === "combustion" || k.value === "burnout") && `, ${t("its fire no. {n} today", { n: fires })}`}.${tail}</p>`;
}

export function ribbon(s, w) {
  const kiosk = document.body.classList.contains("kiosk"), R = rem() / 16, small = w < 600, h = kiosk ? 62 * R : small ? 40 : 54, top = 16 * R, from = midnight(s.now), length = nextMidnight(s.now) - from, X = at => (at - from) / length * w, end = s.gone ?? s.now, list = s.ask ? [] : phases(s), rate = house.boilers[0]?.rate;
  const bars = list.map(p => { const bh = Math.max((HEIGHT[p.phase] ?? .5) * h, p.phase === "off" ? 0 : 4), x = X(p.from), bw = Math.max(X(p.to) - x, .8); return html`<rect class="f-${p.phase}" x="${x.toFixed(1)}" y="${(top + h - bh).toFixed(1)}" width="${bw.toFixed(1)}" height="${bh.toFixed(1)}"><title>${word(p.phase)} ${hm(p.from)} – ${hm(p.to)}</title></rect>`; });
  const flags = s.ask ? [] : flagsOf(s).map(a => html`<path class="flag ${a.until && a.until <= end ? "over" : ""}" d="M${X(a.since).toFixed(1)} ${13 * R}l${-5 * R} ${-10 * R}h${10 * R}z"><title>${a.text}, ${hm(a.since)}</title></path>`);
  const words = list.map((p, i) => { const x = X(p.from), bw = X(p.to) - x, mid = x + bw / 2; return p.phase === "combustion" && bw > 46 * R ? html`<text class="in" x="${mid}" y="${top + h - 8}" text-anchor="middle">${long(p.to - p.from)}</text>` : p.phase === "unknown" && bw > 70 * R ? html`<rect class="pap" x="${mid - 32 * R}" y="${top + h - 22 * R}" width="${64 * R}" height="${17 * R}"/><text class="in2" x="${mid}" y="${top + h - 9 * R}" text-anchor="middle">${t("unknown")}</text>` : p.phase === "ignition" && list[i + 1]?.phase === "off" ? html`<path class="x" d="M${mid - 4} ${top + 7}l8 8m0-8l-8 8"/>` : ""; });
  const step = small ? 6 : w < 1000 ? 3 : 2, ticks = []; for (let hour = 0; hour <= 24; hour += step) { const x = hour / 24 * w; ticks.push(html`<line class="tick" x1="${x.toFixed(1)}" x2="${x.toFixed(1)}" y1="${top + h}" y2="${top + h + 4}"/><text x="${x}" y="${top + h + 4 + 13 * R}" text-anchor="${hour === 0 ? "start" : hour === 24 ? "end" : "middle"}">${hour === 24 ? "24" : hm(from + hour * length / 24).slice(0, 2)}</text>`); }
  const starts = list.filter(p => p.phase === "ignition").length;
  return html`<figure class="day"><svg width="${w}" height="${top + h + 7 + 14 * R}" viewBox="0 0 ${w} ${top + h + 7 + 14 * R}" role="img" aria-label="${t("The boiler's day: {n} ignition|The boiler's day: {n} ignitions", { n: starts })}">${bars}${words}${flags}<line class="${s.ask ? "fut" : "base"}" x1="0" x2="${X(end)}" y1="${top + h + .5}" y2="${top + h + .5}"/><line class="fut" x1="${X(s.now)}" x2="${w}" y1="${top + h + .5}" y2="${top + h + .5}"/>${ticks}${!s.ask && html`<line class="nowline ${s.gone ? "lost" : ""}" x1="${X(s.now)}" x2="${X(s.now)}" y1="${top - 4}" y2="${top + h + 4}"/>`}</svg></figure>`;
}
/** Alerts that began on the shown day, up to its moment. */
export const flagsOf = s => { const day = midnight(s.now), end = s.gone ?? s.now, seen = new Map(kept.fired.map(a => [`${a.name} ${a.since}`, a])); if (!s.then) for (const a of firing(s)) seen.set(`${a.name} ${a.from}`, { name: a.name, since: a.from, until: null, text: a.text }); return [...seen.values()].filter(a => a.since >= day && a.since <= end); };
export function draw() { const n = $("#ribbon"), s = state(); if (n && house.boilers.length) put(n, ribbon(s, Math.round(n.clientWidth || 300))); const say = $("#say"); if (say) put(say, sentence(s)); const rows = $("#phases"); if (rows) put(rows, phaseTable(s)); }
export const phaseTable = s => { const list = phases(s); return list.length > 0 && html`<details><summary>${t("The day as a table")}</summary><div class="scroll" tabindex="0" role="region" aria-label="${t("The day as a table")}"><table class="grid"><thead><tr><th scope="col">${t("Phase")}</th><th scope="col" class="n">${t("from")}</th><th scope="col" class="n">${t("to")}</th><th scope="col" class="n">${t("for")}</th></tr></thead><tbody>${list.map(p => html`<tr><th scope="row">${word(p.phase)}</th><td class="n">${hms(p.from)}</td><td class="n">${hms(p.to)}</td><td class="n">${long(p.to - p.from)}</td></tr>`)}</tbody></table></div></details>`; };
export { DAY, MIN, shownHouse };
