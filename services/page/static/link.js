// What a link in a message opens: what it told of, and buttons. To open it does nothing; a button acts, once.
import { t, useZone, when } from "./words.js";
import { $, html, off, put } from "./dom.js";

const token = location.hash.slice(1), main = $("#main");
const WHY = () => ({ forged: t("This link was not made by this house."), used: t("This link was used already: each is good for one act."), expired: t("This link has ended: it is good for a day."), over: t("What it told of is over: nothing is left to do.") });
async function post(path, body) {
  const answer = await fetch(`api/1/${path}`, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } }), content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(WHY()[content.where] ?? content.error ?? answer.statusText);
  return content;
}
const stands = (a, now) => a.state === "over" ? t("It is over.") : a.state === "again" ? t("That one is over; it fires anew, of which another message tells.") : a.acknowledged ? t("It fires, and somebody has acknowledged it.") : a.snoozed_until ? t("Snoozed until {time}.", { time: when(Date.parse(a.snoozed_until), now) }) : t("It fires since {time}.", { time: when(a.since, now) });
/** Buttons while something fires; `busy` while one of them acts, `said` is what came of it. */
function draw(link, said = "", busy = false) {
  const now = Date.now(), fires = link?.alerts.some(a => a.state === "firing");
  put(main, html`<h1 class="sec">${t("A message of the house")}</h1>${link && html`${link.alerts.map(a => html`<article class="why"><h2>${a.text}</h2><p>${stands(a, now)}</p></article>`)}${link.more > 0 && html`<p class="soft">${t("The message told of {n} more: see the page.|The message told of {n} more: see the page.", { n: link.more })}</p>`}${fires && !said && html`<div class="tools"><button data-act="acknowledge" ${off(busy)}>${t("Acknowledge")}</button><button data-act="snooze" data-for="1h" ${off(busy)}>${t("Snooze 1 h")}</button><button data-act="snooze" data-for="8h" ${off(busy)}>${t("Snooze 8 h")}</button></div>`}${!fires && !said && html`<p class="note">${WHY().over}</p>`}`}<p id="said" role="status" class="${said && "note"}">${said}</p><p><a class="lk" href="./">${t("To the page of the house")}</a></p>`);
  document.title = `${said || t("A message of the house")} · ${t("Constellation")}`;
}
draw(null);
try {
  const link = await post("link", { token }); useZone(link.zone); draw(link);
  main.addEventListener("click", async e => {
    const act = e.target.closest("button")?.dataset; if (!act) return;
    draw(link, "", true);
    try { const names = await post("link/use", act.act === "snooze" ? { token, act: act.act, for: act.for } : { token, act: act.act }); draw(link, act.act === "snooze" ? t("Snoozed: {names}.", { names: names.join(", ") }) : t("Acknowledged: {names}.", { names: names.join(", ") })); }
    catch (error) { draw(link, error.message); }
  });
} catch (error) { draw(null, error.message); }
