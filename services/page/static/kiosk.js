// Kiosk: the same grammar at three metres, and what is only shown.
import { date, hm, midnight, month, plain, t, wday, year } from "./words.js";
import { $, $$, html, mark, put } from "./dom.js";
import { go, link, q } from "./address.js";
import { ask, figure, house, label, look, said, state } from "./house.js";
import { draw, sentence } from "./boiler.js";
import { cells, fires, meterTable } from "./now.js";
import { pulse } from "./frame.js";

export function big(key, s) {
  const d = house.topics[key], k = look(key, s), [i, f] = { silent: [t("silent"), ""], paused: [t("paused"), ""], never: [t("never seen"), ""] }[k.state] ?? figure(d, k);
  return html`<div class="big" data-k="${key}" data-s="${k.state}"><h2>${mark(k.state, said(d, k))}${label(key)}</h2><div class="v"><span class="i">${i}</span><span class="f">${f}</span><span class="u">${k.value !== undefined && k.value !== null && !["silent", "paused", "never"].includes(k.state) && d.unit}</span></div><div class="a"><span>${k.age}</span></div></div>`;
}
/** What is only shown and never stored: a card. */
function only(s) {
  const keys = Object.values(house.topics).filter(d => !d.stored).map(d => d.name); if (!keys.length) return "";
  return html`<div><table class="grid only"><tbody>${keys.slice(0, 8).map(key => { const d = house.topics[key], k = look(key, s), dead = !["live", "guess", "late", "was"].includes(k.state); return html`<tr data-key="${key}" data-s="${k.state}"><td class="mk">${mark(k.state, said(d, k))}</td><th scope="row">${label(key)}</th><td class="n v"><span class="i">${dead ? "—" : figure(d, k).join("")}</span></td><td class="soft">${dead || k.state === "was" ? k.age : d.unit}</td></tr>`; })}</tbody></table></div>`;
}
export function kiosk(s, m) {
  put(m, html`<h1 class="vh">${t("The house")}</h1><div class="khead"><b id="kclock">${hm(s.real)}</b><span class="pulse">${pulse(s)}</span><span class="say">${date(s.real)}</span></div>${fires(s)}${house.boilers.length > 0 && html`<div id="say">${sentence(s)}</div><div id="ribbon"></div>`}<div class="bigs" data-n="${house.kiosk.length}">${house.kiosk.map(k => big(k, s))}</div><div class="kcols">${house.meters.length > 0 && html`<div id="meters">${meterTable(s)}</div>`}${house.batteries.slice(0, 2).map(b => html`<div>${cells(b, s)}</div>`)}${only(s)}</div>`);
  draw();
}

// ---- meters: days, months, years beside the year before
const kept = { key: null, of: null, answer: null, trouble: null };
const BY = ["day", "month", "year"], shownAs = (by, s) => `${by} ${s.then ? s.now : "now"}`;
export function meters(s, m) {
  const by = BY.includes(q().get("by")) ? q().get("by") : "day", names = { day: t("Days"), month: t("Months"), year: t("Years") };
  put(m, html`<h2 class="vh">${t("Meters")}</h2><div class="tools"><fieldset class="seg"><legend class="vh">${t("Span")}</legend>${BY.map(b => html`<button data-by="${b}" aria-pressed="${String(b === by)}">${names[b]}</button>`)}</fieldset></div><div id="counted" data-own></div>`);
  $$("[data-by]").forEach(n => n.onclick = () => go({ by: n.dataset.by }, true));
  const key = `${by} ${s.then ? s.now : Math.floor(s.now / 300e3)}`;
  if (kept.key !== key) { kept.key = key; ask(`meters?by=${by}${s.then ? `&at=${Math.round(s.now)}` : ""}`).then(answer => { if (kept.key === key) { Object.assign(kept, { answer, of: shownAs(by, s), trouble: null }); show(by); } }, error => { Object.assign(kept, { answer: null, trouble: error.message, key: null }); show(by); }); }
  show(by);
}
function show(by) {
  const n = $("#counted"), s = state(); if (!n) return; const a = kept.of === shownAs(by, s) ? kept.answer : null, cur = a?.currency ?? "€";
  if (!a) return put(n, html`<p class="void"><span>${kept.trouble ?? t("Asking the house…")}</span></p>`);
  const named = { day: x => wday(x), month: x => month(x), year: x => year(x) }[by];
  put(n, html`<p class="soft">${s.gone ? t("As it was known at {time}.", { time: hm(s.gone) }) : t("Bar: counted. Outline: the same time a year before. Hatch: nothing was stored.")}</p><div class="cols">${a.meters.map(meter => { const top = Math.max(1e-9, ...meter.periods.flatMap(p => [p[2] ?? 0, p[4] ?? 0])), w = 100 / meter.periods.length, fig = v => v === null ? "—" : plain(v, Math.min(meter.decimals, v >= 100 ? 0 : 2)); return html`<section data-key="${meter.topic}"><h2 class="sec">${label(meter.topic, true)}<small>${meter.unit}</small></h2><svg class="counted" viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label="${label(meter.topic, true)}, ${{ day: t("Days"), month: t("Months"), year: t("Years") }[by]}">${meter.periods.map((p, i) => html`${p[4] !== null && html`<rect class="all" x="${i * w + w * .08}" y="${40 - p[4] / top * 39}" width="${w * .84}" height="${p[4] / top * 39}" vector-effect="non-scaling-stroke"/>`}${p[2] === null ? html`<rect class="none" x="${i * w + w * .08}" y="34" width="${w * .84}" height="6"/>` : html`<rect class="part" x="${i * w + w * .22}" y="${40 - p[2] / top * 39}" width="${w * .56}" height="${p[2] / top * 39}"><title>${named(p[0])}: ${fig(p[2])} ${meter.unit}</title></rect>`}`)}</svg><details><summary>${t("As a table")}</summary><div class="scroll" tabindex="0" role="region" aria-label="${t("As a table")}"><table class="grid"><thead><tr><th scope="col">${t("from")}</th><th scope="col" class="n">${meter.unit}</th><th scope="col" class="n">${t("a year before")}</th><th scope="col" class="n">${cur}</th></tr></thead><tbody>${[...meter.periods].reverse().map(p => html`<tr><th scope="row">${named(p[0])}</th><td class="n">${fig(p[2])}</td><td class="n">${fig(p[4])}</td><td class="n">${p[3] === null ? "—" : plain(p[3], 2)}</td></tr>`)}</tbody></table></div></details></section>`; })}</div>${!a.meters.length && html`<p class="void"><span>${t("There is no meter in this house.")}</span></p>`}`);
}
export { link, midnight };
