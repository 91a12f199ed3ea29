// The address holds the whole view: what is opened again, or sent to somebody, shows the same.
import { local } from "./words.js";
export const q = () => new URLSearchParams(location.search);
export const link = change => { const p = q(); for (const [k, v] of Object.entries(change)) v === null ? p.delete(k) : p.set(k, v); return `?${p}`.replace(/%2F/g, "/").replace(/%2C/g, ",").replace(/%3A/g, ":").replace(/=(?=&|$)/g, ""); };
let shown = () => {};
export const onGo = f => { shown = f; };
export const go = (change, replace) => { history[replace ? "replaceState" : "pushState"](null, "", link(change)); shown(); };
/** The moment that the page shows, or null for now. */
export const past = () => { const at = q().get("at"), moment = at ? local(at) : NaN; return Number.isNaN(moment) ? null : moment; };
