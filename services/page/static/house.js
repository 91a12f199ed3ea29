// The house as the browser knows it: one stream of events, and what each of them means for what is shown.
// What is not proven alive is not: every age is reckoned by the service's clock, and a stream that stands still ends all of it.
import { DAY, HOUR, MIN, hm, iso, local, long, t, useZone, when, num, plain } from "./words.js";
import { go, past } from "./address.js";

/** Milliseconds without an event after which this page has no line to the house: the service speaks every second. */
const SILENT = 3500;

export const house = { ready: false, topics: {}, values: {}, services: {}, alerts: {}, boilers: [], batteries: [], meters: [], kiosk: [], departures: [], log: [], me: { name: null, may_look: true, people: false }, beats: Array(60).fill(null), count: 0 };
export const stood = { at: null, house: null, trouble: null };   // the house of a past moment
let offset = null, heard = 0, lost = null, gone = null, shut = false;
const tell = new EventTarget();
export const on = (name, f) => tell.addEventListener(name, e => f(e.detail));
const say = (name, detail) => tell.dispatchEvent(new CustomEvent(name, { detail }));

/** Time of the house, ms: the service's clock, carried on by one that nobody sets. */
export const now = () => offset === null ? Date.now() : performance.now() + offset;
const meet = time => { const seen = time - performance.now(); offset = offset === null || seen > offset || seen < offset - 2000 ? seen : offset; heard = performance.now(); };

/** What the whole page stands on: {now, then, gone, stream, ask}. `gone`: since when nothing of it is live. */
export function state() {
  const at = past();
  if (at !== null) return { now: at, then: true, gone: null, ask: !house.ready || stood.at !== at, real: now() };
  return { now: now(), then: false, gone: lost ?? gone, stream: lost !== null, ask: !house.ready, real: now() };
}
export const shownHouse = s => !s.then ? house : s.ask ? { ...house, values: {}, alerts: {} } : { ...house, ...stood.house };

// ---- the stream
const APPLY = {
  house(content) { Object.assign(house, content, { ready: true, log: house.log }); useZone(house.zone); meet(content.now); gone = content.gone ?? null; say("house"); },
  values(content) { meet(content.now); for (const [name, value] of Object.entries(content.values)) house.values[name] = value; say("values", Object.keys(content.values)); },
  services(content) { meet(content.now); Object.assign(house.services, content.services); say("services"); },
  alerts(content) { meet(content.now); for (const [name, a] of Object.entries(content.alerts)) if (a) house.alerts[name] = a; else delete house.alerts[name]; say("alerts"); },
  log(line) { if (line) { house.log.unshift(line); house.log.length = Math.min(house.log.length, 200); say("log"); } },
  tick(content) { meet(content.now); gone = content.gone ?? null; house.count = content.count; house.beats.push(content.gone ? -1 : content.count); house.beats.shift(); say("tick"); },
};
let source = null;
export function listen() {
  source?.close(); source = new EventSource("api/1/stream");
  for (const [name, apply] of Object.entries(APPLY)) source.addEventListener(name, e => { lost = null; apply(JSON.parse(e.data)); });
  source.onerror = () => { if (source.readyState === 2) { ask("me").then(me => { house.me = me; shut = !me.may_look; say("house"); }, () => {}); setTimeout(() => { if (!shut) listen(); }, 1500); } };
}
export const isShut = () => shut;
export const open = () => { shut = false; listen(); };
/** Look whether the stream still stands; called each second. */
export function watch() {
  if (house.ready && lost === null && performance.now() - heard > SILENT) { lost = now() - (performance.now() - heard); say("lost"); }
  if (lost !== null) { house.beats.push(-1); house.beats.shift(); if (performance.now() - heard > 6 * SILENT) { heard = performance.now() - 2 * SILENT; listen(); } }
}
addEventListener("online", () => { if (lost !== null) listen(); });

/** JSON of a door; an error carries what the house said of it. */
export async function ask(path, body) {
  const answer = await fetch(`api/1/${path}`, body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } });
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(content.error ?? answer.statusText), { status: answer.status, where: content.where });
  return content;
}
let going = null;
/** Fetch the house as it stood at a time; true where it is here and somebody is `still` waiting for it. */
export async function travel(at, still = () => past() === at) {
  if (!house.ready || going === at) return false;
  if (stood.at === at) return true;
  going = at; let found = { values: {}, alerts: {} }, trouble = null;
  try { found = await ask(`house?at=${Math.round(at)}`); } catch (error) { trouble = error.message; }
  if (going === at) going = null;
  if (!still()) return false;
  Object.assign(stood, { at, house: found, trouble }); if (past() === at) say("house");
  return true;
}
/** Plays on from a past moment: `speed` times as fast, 0 where it stands still; `stepped` is when the last step began. */
export const player = { speed: 0, busy: false, stepped: 0 };
/** A step: to where the past is by now, once that is here; what an answer takes longer than a second is skipped. */
export async function play() {
  const from = past(), s = state(), begun = performance.now(); if (!player.speed || player.busy || from === null || s.ask) return;
  const at = iso(Math.min(from + player.speed * Math.min(1e4, Math.max(1e3, begun - player.stepped)), s.real));
  player.busy = true;
  try { if (await travel(local(at), () => player.speed && past() === from)) { player.stepped = begun; go({ at }, true); } } finally { player.busy = false; }
}

// ---- the grammar: what a topic looks like. Each state has a mark, a weight, a word and a ground.
export const WORDS = () => ({ live: t("live"), late: t("late"), silent: t("silent"), paused: t("paused"), never: t("never seen"), guess: t("live, its clock is estimated"), was: t("last known"), ask: t("asking"), then: t("at that time") });
const every = s => s < 60 ? t("{n} s", { n: Math.ceil(s) }) : t("{n} min", { n: Math.ceil(s / 60) });
const usual = d => d.rhythm > d.every * 2 ? d.rhythm : d.every;
const health = name => house.services[name]?.health;
export const pausedSince = (name, at) => { const h = health(name); return h?.state === "paused" ? Date.parse(h.since) : null; };
export const isGuess = name => health(name)?.clock === "estimated";

/** {state, value, since, was, age} of a topic. `state` is a word of the grammar. */
export function look(key, s) {
  const d = house.topics[key], v = (s.then ? stood.house?.values?.[key] : house.values[key]) ?? {};
  if (s.ask) return { state: "ask", age: "" };
  if (s.then) {
    if (!d?.stored) return { state: "silent", age: t("not kept") };
    if (v.cleared) return { state: "silent", since: v.cleared, was: v.value, age: t("since {time}", { time: when(v.cleared, s.now) }) };
    return v.time ? { state: "then", value: v.value, time: v.time, age: hm(v.time) } : { state: "never", age: t("not kept") };
  }
  const moment = s.gone ?? s.now, age = moment - (v.time ?? 0);
  if (v.asked && !s.gone) return { state: "ask", age: "" };
  if (!v.time) return v.cleared ? { state: "silent", since: v.cleared, age: t("since {time}", { time: when(v.cleared, s.now) }) } : { state: "never", age: t("never seen") };
  const dead = v.cleared || (age > d.stale * 1e3 ? v.time + d.stale * 1e3 : 0);
  const paused = pausedSince(d.source);
  if (paused && (dead || age > d.rhythm * 1e3) && paused <= moment) return { state: "paused", since: paused, was: v.value, age: t("paused {time}", { time: when(paused, s.now) }) };
  if (dead) return { state: "silent", since: dead, was: v.value, age: t("since {time}", { time: when(dead, s.now) }) };
  if (s.gone) return { state: "was", value: v.value, age: t("was, {time}", { time: hm(s.gone) }) };
  if (age > d.rhythm * 1e3) return { state: "late", value: v.value, age: t("late {time}", { time: long(age) }) };
  return isGuess(d.source) ? { state: "guess", value: v.value, age: `≈${every(usual(d))}` } : { state: "live", value: v.value, age: `<${every(usual(d))}` };
}
export const isAlive = k => k.state === "live" || k.state === "late" || k.state === "guess";
/** Whole and decimal part of what is shown of a topic. */
export function figure(d, k) {
  if (k.value === undefined || k.value === null) return [k.state === "silent" || k.state === "paused" ? "—" : "", ""];
  if (typeof k.value === "boolean") return [k.value ? t("yes") : t("no"), ""];
  if (typeof k.value === "string") return [word(k.value), ""];
  return num(k.value, d.decimals);
}
export const isWord = (d, k) => typeof k.value === "string";
export const word = w => t(PHASES[w] ?? w);
export const PHASES = { unknown: "unknown", off: "off", prepurge: "purging", ignition: "igniting", combustion: "burning", burnout: "burning out", keep_fire: "keeping the fire" };
export const said = (d, k) => [WORDS()[k.state], k.was !== undefined && k.was !== null && t("was {value}", { value: typeof k.was === "number" ? `${plain(k.was, d.decimals)} ${d.unit}` : figure(d, { value: k.was })[0] })].filter(Boolean).join(", ");

// ---- names of things
const tidy = text => { const s = text.replace(/_/g, " "); return s.charAt(0).toUpperCase() + s.slice(1); };
export const placeOf = key => tidy(key.split("/")[0]);
/** What people call a topic: their own label, else what its name says within its place. */
export function label(key, alone) {
  const d = house.topics[key]; if (!d) return key;
  if (d.named) return d.label;
  const [place, thing, name] = key.split("/"), short = shortOf(name), mates = house.things?.get(`${place}/${thing}`) ?? [], many = mates.length > 1, taken = many && mates.some(n => n !== name && shortOf(n) === short);
  const own = name === "soc" ? t("charge") : name === d.quantity ? (many ? name : "") : taken ? name : short, elsewhere = many && [...house.things].some(([other, names]) => other.startsWith(`${place}/`) && other !== `${place}/${thing}` && names.length > 1 && names.some(n => mates.includes(n)));
  return tidy(alone ? `${place} ${thing} ${name}` : many && !elsewhere ? own : `${thing} ${own}`.trim());
}
/** A name without the word that its unit says as well. */
const shortOf = name => name.replace(/_(temperature|current|usage|mass|count|active|duration|duty)$/, "");
on("house", () => { house.things = new Map(); for (const k of Object.keys(house.topics)) { const [place, thing, name] = k.split("/"), list = house.things.get(`${place}/${thing}`) ?? []; list.push(name); house.things.set(`${place}/${thing}`, list); } });

// ---- alerts
/** Alerts that fire: of the house as it stands, or stood; those nobody acknowledged first. */
export function firing(s) {
  const list = Object.entries(shownHouse(s).alerts).filter(([, a]) => a.state === "firing").map(([name, a]) => ({ name, ...a, from: typeof a.since === "number" ? a.since : Date.parse(a.since), text: a.text ?? tidy(name) }));
  return list.sort((x, y) => !!x.acknowledged - !!y.acknowledged || (y.priority ?? 0) - (x.priority ?? 0) || y.from - x.from);
}
export { tidy, HOUR, MIN, DAY };
