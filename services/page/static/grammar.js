// Rows and small curves: the timetable of values. Every state has its mark, weight, word and ground (README of the design).
import { HOUR, hm, t, when } from "./words.js";
import { $$, become, html, mark, raw } from "./dom.js";
import { link } from "./address.js";
import { ask, figure, house, isAlive, isWord, label, look, on, said, shownHouse, state } from "./house.js";

export const SPAN = 4 * HOUR;
export const rem = () => parseFloat(getComputedStyle(document.documentElement).fontSize);
export const narrow = matchMedia("(max-width: 1000px)");

// ---- the last four hours of every topic: asked for now and then, carried on by what comes in between
const curves = { of: new Map(), to: 0, asked: -Infinity, then: null, trouble: null };
const REFRESH = 120e3;
export async function freshen(s) {
  const to = s.then ? s.now : null, age = performance.now() - curves.asked;
  if (curves.then === to && age < (curves.trouble ? 10e3 : REFRESH) || s.then && age < 400) return;
  Object.assign(curves, { asked: performance.now(), then: to });
  try {
    const found = await ask(`curves${to ? `?to=${Math.round(to)}` : ""}`);
    if (curves.then !== to) return;
    curves.of = new Map(found.map(c => [c.topic, c])); curves.trouble = null; stamp++;
  } catch (error) { curves.trouble = error.message; if (to) { curves.of = new Map(); stamp++; } }
  redraw();
}
let stamp = 0;
const redraw = () => { const s = state(); for (const n of $$(".r[data-k]")) become(n, row(n.dataset.k, s, n.dataset.l || null)); };
on("values", names => { const s = state(); if (s.then) return; for (const name of names) carry(name); });
function carry(name) {                                      // the newest reading is the curve's end until the archive has its bucket
  const c = curves.of.get(name), v = house.values[name]; if (!c || typeof v?.value !== "number" || v.cleared) return;
  const at = Math.floor(v.time / c.step) * c.step, i = c.t.length - 1;
  if (c.t[i] === at) { c.mean[i] = v.value; } else if (i < 0 || at > c.t[i]) { if (i >= 0 && at - c.t[i] > house.topics[name].stale * 1e3 + 1.5 * c.step) { c.holes.push([c.t[i] + c.step, at]); c.t.push(c.t[i] + c.step); c.mean.push(null); } c.t.push(at); c.mean.push(v.value); }
}

const FLOOR = { "°C": 4, A: .2, W: 60, V: .3, "%": 4 };
/** A curve of four hours whose right edge is now: what ended, ends; what is not known is hatched. */
export function spark(key, s, w, h = 20) {
  const d = shownHouse(s).topics[key], k = look(key, s), edge = s.gone ?? s.now, from = s.now - SPAN, c = s.ask ? null : curves.of.get(key);
  const empty = ground => html`<svg class="spark" width="${w}" height="${h}" aria-hidden="true">${ground && html`<rect x="-2" y="-9" width="2000" height="${h + 18}" fill="url(#${ground})"/>`}</svg>`;
  const ground = { paused: "bars", silent: "hatch" }[k.state];
  if (!d || !c || d.kind === "switch" || d.kind === "counter" && !c.mean.some(v => v)) return empty(s.ask ? null : ground);
  const points = c.t.map((at, i) => [at, c.mean[i]]).filter(([at]) => at >= from && at <= edge), ys = points.map(p => p[1]).filter(v => v !== null);
  if (!ys.length) return empty(ground);
  let lo = Math.min(...ys), hi = Math.max(...ys); const floor = FLOOR[d.unit] ?? 1; if (hi - lo < floor) { const m = (hi + lo) / 2; lo = m - floor / 2; hi = m + floor / 2; }
  const X = at => (at - from) / SPAN * (w - 3), Y = v => (h - 3) - (v - lo) / (hi - lo) * (h - 6) + .5; let path = "", pen = false, x = 0, y = 0;
  for (const [at, v] of points) { if (v === null) { pen = false; continue; } path += `${pen ? "L" : "M"}${(x = X(Math.min(at + c.step / 2, edge))).toFixed(1)} ${(y = Y(v)).toFixed(1)}`; pen = true; }
  const first = points[0][0], holes = c.holes.filter(([a, z]) => z > Math.max(from, first) && z < edge - c.step).map(([a, z]) => `<rect x="${X(Math.max(a, from)).toFixed(1)}" width="${Math.max(1, X(z) - X(Math.max(a, from))).toFixed(1)}" height="${h}" fill="url(#hatch)"/>`).join("");
  const end = ground ? `<rect x="${(Math.max(0, X(Math.max(k.since ?? 0, from))) + 2).toFixed(1)}" y="-9" width="2000" height="${h + 18}" fill="url(#${ground})"/>` : "";
  return html`<svg class="spark" width="${w}" height="${h}" aria-hidden="true">${raw(holes + end)}<path d="${path}"/>${(k.state === "live" || k.state === "guess") && html`<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="1.9"/>`}</svg>`;
}

export function row(key, s, name) {
  const d = house.topics[key], k = look(key, s), [i, f] = figure(d, k), size = rem();
  return html`<tr class="r" role="row" data-k="${key}" data-s="${k.state}" ${name && raw(`data-l="${String(name).replace(/[&"<>]/g, c => `&#${c.charCodeAt(0)};`)}"`)}><td role="cell" class="mk">${mark(k.state, said(d, k))}</td><th role="rowheader" scope="row"><a href="${link({ view: "history", topics: key })}">${name ?? label(key)}</a></th><td role="cell">${spark(key, s, Math.round(size * (narrow.matches ? 4.3 : 7.9)), Math.round(size * 1.3))}</td><td role="cell" class="v ${isWord(d, k) ? "word" : ""}"><span class="i">${i}</span><span class="f">${f}</span></td><td role="cell" class="u">${k.value !== undefined && k.value !== null && d.unit}</td><td role="cell" class="a"><span>${k.age}</span></td></tr>`;
}
export const table = (name, keys, s) => keys.length > 0 && html`<table class="t" role="table" aria-label="${name}"><thead role="rowgroup"><tr role="row">${[t("State"), t("What"), t("Last four hours"), t("Value"), t("Unit"), t("Age")].map(w => html`<th role="columnheader">${w}</th>`)}</tr></thead><tbody role="rowgroup">${keys.map(k => Array.isArray(k) ? row(k[0], s, k[1]) : row(k, s))}</tbody></table>`;

/** Rows whose look changed are made anew, the others are not touched: each second, and with each reading. */
export function touchRows(s) {
  for (const n of $$(".r[data-k]")) {
    const key = n.dataset.k, d = house.topics[key]; if (!d) continue;
    const k = look(key, s), sign = `${k.state}|${k.value}|${k.age}|${stamp}|${Math.floor(s.now / 60e3)}`;
    if (n.sign !== sign) { n.sign = sign; become(n, row(key, s, n.dataset.l || null)); }
  }
}

// ---- a strip: one topic over a span, with a limit and flags
export function strip(series, s, w, limit, flags, name) {
  const h = 92, from = series.from, to = series.to, one = series.series[0], ys = [...one.low, ...one.high, ...one.mean].filter(v => v !== null), all = limit === null || limit === undefined ? ys : [...ys, limit];
  if (!all.length) all.push(0, 1);
  const lo = Math.min(...all), hi = Math.max(...all), X = at => (at - from) / (to - from) * w, Y = v => h - 16 - (v - lo) / (hi - lo || 1) * (h - 30); let p = "", pen = false;
  one.t.forEach((at, i) => { const v = one.mean[i]; if (v === null) pen = false; else { p += `${pen ? "L" : "M"}${X(at).toFixed(1)} ${Y(v).toFixed(1)}`; pen = true; } });
  const envelope = one.t.map((at, i) => one.high[i] === null ? "" : `M${X(at).toFixed(1)} ${Y(one.low[i]).toFixed(1)}V${Y(one.high[i]).toFixed(1)}`).join("");
  return html`<svg class="strip spark" viewBox="0 0 ${w} ${h}" width="${w}" height="${h}" role="img" aria-label="${name}, ${when(from, s.now)} – ${when(to, s.now)}">${one.holes.map(([a, z]) => html`<rect x="${X(a).toFixed(1)}" y="8" width="${Math.max(1, X(z) - X(a)).toFixed(1)}" height="${h - 24}" fill="url(#hatch)"/>`)}${limit !== null && limit !== undefined && html`<line class="nowline" stroke-dasharray="3 3" x1="0" x2="${w}" y1="${Y(limit)}" y2="${Y(limit)}"/><text class="tx" x="2" y="${Y(limit) - 4}">${limit}</text>`}<path class="env" d="${envelope}"/><path d="${p}"/>${flags.filter(at => at >= from && at <= to).map(at => html`<path class="flag" d="M${X(at).toFixed(1)} 12l-5-10h10z"/>`)}<text class="tx" x="0" y="${h - 2}">${when(from, s.now)}</text><text class="tx" x="${w}" y="${h - 2}" text-anchor="end">${when(to, s.now)}</text></svg>`;
}
export { isAlive };
