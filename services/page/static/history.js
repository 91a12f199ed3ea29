// History: four hours to all years, several topics in one picture; the address holds the whole view.
import { DAY, HOUR, dated, dm, hm, local, iso, long, midnight, plain, t, wday, when } from "./words.js";
import { $, $$, html, off, put } from "./dom.js";
import { go, q } from "./address.js";
import { ask, figure, house, label, placeOf, state, word } from "./house.js";
import { DASH, destroy, draw } from "./chart.js";

const SPANS = { "4h": 4 * HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY, "1y": 365 * DAY, "10y": 3650 * DAY };
const LEAST = 60e3, MOST = 14.9 * 365 * DAY;
const shown = { key: null, answer: null, phases: [], fired: [], trouble: null, asked: 0, drawn: null };

const chosen = () => { const asked = [...new Set((q().get("topics") ?? "").split(","))].filter(k => house.topics[k]); if (asked.length) return asked.slice(0, 12); const boiler = house.boilers[0], own = boiler ? ["water", "flue", "return"].map(role => boiler.inputs[role]).filter(k => house.topics[k]) : []; return own.length ? own : Object.values(house.topics).filter(d => d.stored && d.kind === "gauge").slice(0, 2).map(d => d.name); };
/** What is looked at: topics, from, to, and whether its right edge is now. */
function view(s) {
  const edge = s.gone ?? s.now, name = q().get("span") ?? "24h", given = q().get("to"), end = given ? local(given) : NaN, to = Number.isNaN(end) ? edge : Math.min(end, edge);
  const length = SPANS[name] ?? Math.max(LEAST, Math.min(MOST, Number(name.replace("s", "")) * 1e3 || DAY));
  return { topics: chosen(), name, length, from: to - length, to, live: to === edge };
}
const moveTo = (s, from, to) => { const edge = s.gone ?? s.now, length = Math.max(LEAST, Math.min(MOST, to - from)), end = Math.min(to, edge), name = Object.keys(SPANS).find(k => Math.abs(SPANS[k] - length) < length * .004) ?? `${Math.round(length / 1e3)}s`; go({ span: name, to: end >= edge - length / 200 ? null : iso(end) }, true); };

async function fetchIt(v, s) {
  const buckets = Math.max(60, Math.min(1200, Math.round(($("#plot")?.clientWidth ?? 900) / 2))), key = `${v.topics} ${v.name} ${v.live && !s.then ? Math.floor(v.to / Math.max(15e3, v.length / 400)) : v.to} ${buckets}`;
  if (s.ask && !s.then || !v.topics.length || shown.key === key) return; shown.key = key;
  const span = `from=${Math.round(v.from)}&to=${Math.round(v.to)}`, boiler = house.boilers[0];
  try {
    const [answer, runs, alerts] = await Promise.all([ask(`history?topics=${v.topics}&${span}&buckets=${buckets}`), boiler && v.length <= 8 * DAY ? ask(`phases?topic=${boiler.thing}/phase&${span}`) : [], ask(`alerts?${span}`)]);
    if (shown.key !== key) return;
    Object.assign(shown, { answer, phases: runs.map(([phase, from, to]) => ({ phase, from, to })), fired: alerts.fired.filter(a => a.since >= v.from && a.since <= v.to), trouble: null });
  } catch (error) { if (shown.key !== key) return; Object.assign(shown, { answer: null, trouble: error.message }); setTimeout(() => { if (shown.trouble) shown.key = null; }, 5000); }
  paint(state());
}

const fits = v => shown.answer !== null && String(shown.answer.series.map(one => one.topic)) === String(v.topics);
const csv = (topics, from, to) => `api/1/history?topics=${topics.join(",")}&from=${Math.round(from)}&to=${Math.round(to)}&buckets=3000&format=csv`;
function paint(s) {
  const node = $("#plot"), v = view(s); if (!node) return;
  const trouble = $("#trouble"); if (trouble) put(trouble, shown.trouble ? html`<p class="void"><span>${t("The archive cannot be read: {why}", { why: shown.trouble })}</span></p>` : "");
  if (!fits(v)) { destroy(); for (const n of [node, $("#rows"), $("#sum")]) n?.replaceChildren(); return; }   // it is of other topics
  $("#csv").href = csv(v.topics, shown.answer.from, shown.answer.to);
  const boiler = house.boilers[0], phases = boiler && v.topics.some(k => k.startsWith(boiler.thing.split("/")[0])) ? shown.phases : [];
  draw(node, shown.answer, { phases, flags: shown.fired, tell: at => tell(at, s), zoom: (a, z) => moveTo(state(), a, z) });
  node.dataset.drawn = String((+node.dataset.drawn || 0) + 1); performance.mark("drawn"); tell(null, s);
  put($("#rows"), rows(s)); put($("#sum"), sum(s));
}
const nearest = (one, at) => { let lo = 0, hi = one.t.length - 1; while (lo < hi) { const m = (lo + hi + 1) >> 1; if (one.t[m] <= at) lo = m; else hi = m - 1; } return lo; };
function tell(at, s) {
  const a = shown.answer; if (!a || !$("#cur")) return; const moment = at ?? a.to; $("#cur").textContent = when(moment, s.now);
  a.series.forEach((one, n) => { const tr = $(`.read tr[data-i="${n}"]`); if (!tr) return; const d = house.topics[one.topic]; if (one.words?.length) { const w = one.words.find(([, from, to]) => moment >= from && moment < to) ?? (at ? null : one.words.at(-1)); tr.cells[1].textContent = w ? word(w[0]) : "—"; return; } const i = at === null ? one.t.length - 1 : nearest(one, moment); ["mean", "low", "high"].forEach((name, m) => { const value = one[name][i]; tr.cells[m + 1].textContent = value === null || value === undefined ? "—" : d.kind === "switch" && name === "mean" ? `${Math.round(value * 100)} %` : plain(value, d.decimals); }); });
  const p = shown.phases.find(x => moment >= x.from && moment < x.to), f = at && shown.fired.find(x => Math.abs(x.since - moment) < (a.to - a.from) / 120);
  $("#what").textContent = [p && t("Boiler: {phase}", { phase: word(p.phase) }), f && f.text].filter(Boolean).join(" · ") || "\u00a0";
}
function rows() {
  const a = shown.answer, lines = a.series.filter(one => !one.words?.length), long_ = a.to - a.from > 8 * DAY, times = [...new Set(lines.flatMap(one => one.t))].sort((x, y) => x - y), step = Math.ceil(times.length / 100) || 1;
  return html`<table class="grid"><thead><tr><th scope="col">${t("time")}</th>${lines.map(one => html`<th scope="col" class="n">${label(one.topic)} ${t("mean")}</th><th scope="col" class="n">${t("low")}</th><th scope="col" class="n">${t("high")}</th>`)}</tr></thead><tbody>${times.filter((x, i) => i % step === 0).map(x => html`<tr><th scope="row">${long_ ? dated(x) : `${dm(x)} ${hm(x)}`}</th>${lines.map(one => { const i = one.t.indexOf(x); return ["mean", "low", "high"].map(name => html`<td class="n">${i < 0 || one[name][i] === null ? "—" : plain(one[name][i], house.topics[one.topic].decimals)}</td>`); })}</tr>`)}</tbody></table>`;
}
function sum(s) {
  const a = shown.answer, one = a.series.find(x => !x.words?.length), burns = shown.phases.filter(p => p.phase === "combustion").length, none = one ? one.holes.reduce((n, [x, z]) => n + z - x, 0) : 0;
  return html`${burns > 0 && html`<dt>${t("Fires")}</dt><dd>${burns}</dd>`}<dt>${t("Alerts")}</dt><dd>${shown.fired.length ? shown.fired.slice(0, 8).map(x => html`<div>${when(x.since, s.now)} ${x.text}</div>`) : t("none")}${shown.fired.length > 8 && html`<div>${t("and {n} more|and {n} more", { n: shown.fired.length - 8 })}</div>`}</dd>${one && html`<dt>${t("Not stored")}</dt><dd>${none ? html`<b>${long(none)}</b> ${t("of {name}", { name: label(one.topic) })}${one.holes.slice(-3).map(([x, z]) => html`<div>${when(x, s.now)} – ${midnight(x) === midnight(z) ? hm(z) : when(z, s.now)}</div>`)}` : t("nothing missing")}</dd>`}`;
}

export function history(s, m) {
  const v = view(s), spanText = `${v.length > 300 * DAY ? dated(v.from) : wday(v.from)} ${hm(v.from)} – ${midnight(v.from) === midnight(v.to) ? "" : v.length > 300 * DAY ? dated(v.to) : wday(v.to)} ${hm(v.to)}`, groups = new Map();
  for (const d of Object.values(house.topics)) if (!v.topics.includes(d.name) && d.stored) groups.set(placeOf(d.name), [...(groups.get(placeOf(d.name)) ?? []), d.name]);
  put(m, html`<h2 class="vh">${t("History")}</h2><div class="tools"><fieldset class="seg"><legend class="vh">${t("Span")}</legend>${Object.keys(SPANS).map(k => html`<button data-span="${k}" aria-pressed="${String(k === v.name)}">${k}</button>`)}</fieldset><fieldset><legend class="vh">${t("Move")}</legend><button data-move="-1" aria-label="${t("Earlier")}">← ${t("earlier")}</button><button data-move="1" aria-label="${t("Later")}" ${off(v.live)}>${t("later")} →</button></fieldset><a class="button" id="csv" download="house.csv" href="${csv(v.topics, v.from, v.to)}">CSV</a><output id="span">${spanText}</output></div><div id="trouble"></div>
    <div class="hist"><div><div class="plot" id="plot" data-own tabindex="0" role="img" aria-label="${t("Chart of {names}. Arrow keys move the cursor; a table follows.", { names: v.topics.map(k => label(k, true)).join(", ") })}"></div></div>
    <div><table class="grid read" aria-label="${t("Read-out")}"><thead><tr><th scope="col" id="cur">${hm(v.to)}</th><th scope="col" class="n">${t("mean")}</th><th scope="col" class="n">${t("low")}</th><th scope="col" class="n">${t("high")}</th></tr></thead><tbody>${v.topics.map((k, i) => html`<tr data-i="${i}" data-key="${k}"><th scope="row"><svg width="26" height="10" aria-hidden="true"><line class="dash" x1="0" x2="26" y1="5" y2="5" stroke="var(--s${i % 4 + 1})" stroke-dasharray="${DASH[i % 4].join(" ")}"/></svg>${label(k)} <small>${shown.answer?.series[i]?.topic === k && house.topics[k].kind === "counter" ? rate(house.topics[k].unit) : house.topics[k].unit}</small></th><td class="n"></td><td class="n"></td><td class="n"></td></tr>`)}</tbody></table>
    <p class="note soft" id="what"></p><form class="tools" id="add"><label for="topic" class="vh">${t("Add a topic")}</label><select id="topic"><option value="">${t("Add a topic…")}</option>${[...groups].map(([name, keys]) => html`<optgroup label="${name}">${keys.map(k => html`<option value="${k}">${label(k)}</option>`)}</optgroup>`)}</select>${v.topics.length > 1 && html`<button type="button" data-drop="${v.topics.at(-1)}">${t("Remove {name}", { name: label(v.topics.at(-1)) })}</button>`}</form>
    <dl class="sum" id="sum"></dl><p class="soft">${t("Line: mean. Ground: lowest and highest reading. Hatch: nothing was stored. ▼ an alert began.")}</p></div></div><details><summary>${t("The chart as a table")}</summary><div class="scroll" tabindex="0" id="rows" role="region" aria-label="${t("The chart as a table")}"></div></details>`);
  $$("[data-span]").forEach(n => n.onclick = () => go({ span: n.dataset.span }));
  $$("[data-move]").forEach(n => n.onclick = () => moveTo(state(), v.from + n.dataset.move * v.length / 2, v.to + n.dataset.move * v.length / 2));
  $("#topic").onchange = e => { if (e.target.value) { go({ topics: [...v.topics, e.target.value].join(",") }); $("#topic").value = ""; } };
  const drop = $("[data-drop]"); if (drop) drop.onclick = () => go({ topics: v.topics.slice(0, -1).join(",") });
  fetchIt(v, s); paint(s);
}
const rate = unit => unit === "kWh" ? "kW" : `${unit}/h`;
/** Ask again for what moves; called each second. */
export function followHistory(s) { const v = view(s); if (v.live && !s.gone && !s.ask) fetchIt(v, s); }
export const leaveHistory = () => { destroy(); shown.key = null; };
export { figure };
