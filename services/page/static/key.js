// How to read this page: every state in its own row, for people and for tests.
import { t } from "./words.js";
import { html, mark, put } from "./dom.js";
import { WORDS, word } from "./house.js";
import { HEIGHT } from "./boiler.js";

const sample = (state, figure, age, ground, dot) => html`<table class="t" role="table" aria-label="${WORDS()[state]}"><tbody role="rowgroup"><tr class="r" role="row" data-s="${state}"><td role="cell" class="mk">${mark(state, WORDS()[state])}</td><th role="rowheader" scope="row">${t("Water")}</th><td role="cell"><svg class="spark" width="110" height="20" aria-hidden="true">${ground && html`<rect x="70" y="-9" width="2000" height="38" fill="url(#${ground})"/>`}${state !== "never" && state !== "ask" && html`<path d="M0 14L20 8L45 12L${ground ? "68 6" : "80 6L107 10"}"/>`}${dot && html`<circle cx="107" cy="10" r="1.9"/>`}</svg></td><td role="cell" class="v"><span class="i">${figure[0]}</span><span class="f">${figure[1]}</span></td><td role="cell" class="u">${/\d/.test(figure[0]) && "°C"}</td><td role="cell" class="a"><span>${age}</span></td></tr></tbody></table>`;
export function key(s, m) {
  const rows = [
    [sample("live", ["74", ".2"], "<10 s", null, true), t("Live: read within its rhythm. Full disc, bold. Its age stands still, so that only trouble moves.")],
    [sample("late", ["74", ".2"], t("late {time}", { time: "41 s" })), t("Late: overdue, not yet silent. Half a disc, thin, dotted; its age counts.")],
    [sample("silent", ["—", ""], t("since {time}", { time: "12:47" }), "hatch"), t("Silent: nobody can measure it any more. No number; the hatch begins where the curve ended.")],
    [sample("paused", ["—", ""], t("paused {time}", { time: "14:20" }), "bars"), t("Paused: somebody stopped it. Two bars, upright lines.")],
    [sample("never", ["", ""], t("never seen")), t("Never seen: it stands in topics.yaml, nothing came yet. Dots.")],
    [sample("guess", ["74", ".2"], "≈10 s", null, true), t("Estimated clock: live, but its host's clock is a guess. A wave in the disc, ≈ before the age.")],
    [sample("was", ["74", ".2"], t("was, {time}", { time: "15:01" })), t("No broker: the whole page is “was”, slanted and thin, an empty ring, below a hatched band.")],
    [sample("ask", ["", ""], ""), t("Asking: nothing has come since the page opened. A line, never an old number.")],
    [sample("then", ["74", ".2"], "03:10"), t("Then: a past moment. Squares for discs, brown paper, a frame.")],
  ], marks = [["loud", t("An alert fires and nobody has acknowledged it: filled, on a filled band.")], ["ack", t("It fires, somebody knows: an outline.")], ["yes", t("Proved, with the figures beside it. Green is used for nothing else.")], ["open", t("Not shown yet.")], ["no", t("Shown to be not so.")]];
  put(m, html`<h2 class="sec">${t("How to read this page")}</h2><div class="key">${rows.map(([row, text]) => html`<div>${row}<p>${text}</p></div>`)}</div><div class="cols"><div><h2 class="sec">${t("The boiler")}<small>${t("the higher, the more fire")}</small></h2>${Object.keys(HEIGHT).map(p => html`<div class="claim"><svg width="18" height="20" aria-hidden="true"><rect class="f-${p}" width="18" y="${20 - 20 * HEIGHT[p]}" height="${20 * HEIGHT[p]}"/><path class="base" d="M0 19.5h18"/></svg><span>${word(p)}</span></div>`)}</div><div><h2 class="sec">${t("Marks")}</h2>${marks.map(([k, text]) => html`<div class="claim ${k}">${mark(k)}<span>${text}</span></div>`)}</div></div>`);
}
