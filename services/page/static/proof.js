// Proof: what can be shown of the promise that nothing is lost. Green only with its figures; without a broker no tick stands.
import { hm, hms, long, num, plain, t, when } from "./words.js";
import { $, html, mark, put } from "./dom.js";
import { ask, state } from "./house.js";

const kept = { answer: null, asked: -Infinity, trouble: null };
const TEXT = () => ({ on_disk: t("What was taken is on disk"), nothing_lost: t("Nothing was lost"), whole: t("The archive can be read"), filled: t("The other stores have caught up"), backup: t("There is a fresh backup"), nothing_refused: t("No reading was put aside") });
const size = bytes => bytes > 1e9 ? `${plain(bytes / 1e9, 2)} GB` : `${plain(bytes / 1e6, 1)} MB`;
const since = (time, s) => time ? t("since {time}", { time: when(time, s.now) }) : t("since when: not kept");
function facts(c, s) {
  const f = c.facts, list = x => Array.isArray(x) ? x.join(", ") : Object.entries(x).map(([k, v]) => `${k} ${v}`).join(", ");
  switch (c.key) {
    case "on_disk": return [t("{n} source confirmed by the archive|{n} sources confirmed by the archive", { n: f.sources - f.unmarked.length }), f.waiting ? t("{n} reading waits|{n} readings wait", { n: f.waiting }) : t("none waits"), f.lag !== null && t("the slowest after {time} s", { time: plain(f.lag / 1e3, 1) }), f.unmarked.length > 0 && t("not confirmed: {names}", { names: list(f.unmarked) })];
    case "nothing_lost": return [Object.keys(f.lost).length ? t("lost: {names}", { names: Object.entries(f.lost).map(([k, n]) => `${k} ${n} (${since(f.since[k], s)})`).join(", ") }) : t("no source dropped a reading since it started"), f.missing.length > 0 && t("missing in the archive: {spans}", { spans: f.missing.map(([a, z]) => `${when(a, s.now)} – ${when(z, s.now)}`).join(", ") }), f.silent.length > 0 && t("not heard: {names}", { names: list(f.silent) })];
    case "whole": return [f.trouble ?? (f.bytes && size(f.bytes)), f.first && t("single readings since {time}", { time: when(f.first, s.now) }), f.state && f.state !== "running" && f.state, t("page by page it is checked by nobody yet")];
    case "filled": return [f.stores.length ? list(f.stores) : t("there is no other store"), f.filling.length > 0 && t("being filled: {names}", { names: list(f.filling) }), f.silent.length > 0 && t("not heard: {names}", { names: list(f.silent) })];
    case "backup": return [f.taken ? `${t("taken {time}", { time: when(f.taken, s.now) })}, ${size(f.bytes)}` : t("none was found"), f.tried ? t("put back on trial {time}", { time: when(f.tried, s.now) }) : t("whether it can be put back was not tried")];
    case "nothing_refused": return [Object.keys(f.refused).length ? t("in the dead letters: {names}", { names: list(f.refused) }) : t("no dead letter since the services started")];
    default: return [];
  }
}
async function remember(s) {
  if (s.then || s.ask || performance.now() - kept.asked < 5e3) return; kept.asked = performance.now();
  try { Object.assign(kept, { answer: await ask("proof"), trouble: null }); } catch (error) { kept.trouble = error.message; }
  const m = $("#proof"); if (m) put(m, content(state()));
}
const equal = (one) => one.newest === null ? html`<span class="off0">—</span>` : one.stored === null ? html`<span class="bad">?</span>` : one.newest <= one.stored || !one.waiting ? html`<span class="eq" title="${plain(one.stored, 0)}">=</span>` : html`<span class="bad">${num(one.stored - one.newest, 0).join("")}</span>`, zero = n => n ? html`<span class="bad">${plain(n, 0)}</span>` : html`<span class="off0">·</span>`;
function content(s) {
  const a = kept.answer, words = { yes: t("shown"), open: t("not shown"), no: t("not so") }; if (!a) return html`<p class="void"><span>${kept.trouble ?? t("Asking the house…")}</span></p>`;
  return html`<div class="cols"><div><h2 class="sec">${t("What can be shown")}<small>${s.gone ? t("was, {time}", { time: hms(s.gone) }) : t("at {time}", { time: hms(a.at) })}</small></h2>${a.claims.map(c => { const st = s.gone && c.state === "yes" ? "open" : c.state; return html`<div class="claim ${st}" data-key="${c.key}">${mark(st, words[st])}<strong>${TEXT()[c.key]}${st !== "yes" && html` <small>${st !== c.state ? t("shown until {time}, cannot be shown now", { time: hm(s.gone) }) : words[st]}</small>`}</strong><p>${facts(c, s).filter(Boolean).join(" · ")}</p></div>`; })}</div>
    <div><h2 class="sec">${t("From the wire to the disk")}<small>${t("= the same number · — does not apply")}</small></h2><div class="wide" tabindex="0" role="region" aria-label="${t("Readings of each source")}"><table class="grid"><thead><tr><th scope="col">${t("Source")}</th><th scope="col">${t("State")}</th><th scope="col" class="n">${t("taken")}</th><th scope="col" class="n">${t("archive")}</th><th scope="col" class="n">${t("waiting")}</th><th scope="col" class="n">${t("lag s")}</th><th scope="col" class="n">${t("refused")}</th><th scope="col" class="n">${t("lost")}</th><th scope="col" class="n">${t("gaps filled")}</th><th scope="col" class="n">${t("unclean end")}</th><th scope="col" class="n">${t("last")}</th></tr></thead><tbody>${a.sources.map(p => html`<tr data-key="${p.source}"><th scope="row">${p.source}</th><td class="soft">${s.gone ? t("was {value}", { value: p.state }) : t(p.state)}</td><td class="n">${plain(p.taken, 0)}</td><td class="n">${equal(p)}</td><td class="n">${zero(p.waiting)}</td><td class="n">${p.lag === null ? "—" : plain(p.lag / 1e3, 1)}</td><td class="n">${zero(p.refused)}</td><td class="n">${zero(p.lost)}${p.lost > 0 && html` <small>${since(p.lost_since, s)}</small>`}</td><td class="n">${p.gaps ? html`<span class="${p.filled < p.gaps ? "bad" : ""}">${p.filled}/${p.gaps}</span>` : zero(0)}</td><td class="n soft">${p.unclean ? when(p.unclean, s.now) : "—"}</td><td class="n soft">${p.last ? (s.now - p.last < 864e5 ? hms(p.last) : when(p.last, s.now)) : "—"}</td></tr>`)}</tbody></table></div><p class="soft">${t("Taken: readings since the source started. Archive: whether the newest of them is on disk.")} ${t("Gaps, unclean ends and when a loss began: heard since {time}, before that not kept.", { time: when(a.heard, s.now) })} <a class="lk" href="api/1/proof">JSON</a> · <code>constellation proof</code></p></div></div>`;
}
export function proof(s, m) {
  if (s.then || s.ask) return put(m, html`<h2 class="sec">${t("Proof")}</h2><p class="void"><span>${s.then ? t("What could be shown is not kept: nobody can say how it stood at {time}. Values, phases and alerts can.", { time: hm(s.now) }) : t("Asking the house…")}</span></p>`);
  put(m, html`<h2 class="vh">${t("Proof")}</h2><div id="proof" data-own></div>`); put($("#proof"), content(s)); remember(s);
}
export const followProof = s => remember(s);
export { long };
