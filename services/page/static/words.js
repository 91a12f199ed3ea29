// What people read: words from one catalog a language, times and numbers as the house's people write them.
const LANGUAGES = ["en", "fr", "de"];
export const language = (() => {
  const asked = new URLSearchParams(location.search).get("lang");
  return LANGUAGES.includes(asked) ? asked : navigator.languages.map(l => l.slice(0, 2)).find(l => LANGUAGES.includes(l)) ?? "en";
})();
const catalog = await fetch(`words/${language}.json`).then(answer => answer.json());
document.documentElement.lang = language;

/** A sentence in the reader's language; `{name}` is filled in, and of `one|many` the form that `n` asks for is taken. */
export function t(text, filled = {}) {
  let said = catalog[text] ?? text;
  if (said.includes("|") && "n" in filled) { const [one, many] = said.split("|"); said = (language === "fr" ? Math.abs(filled.n) < 2 : filled.n === 1) ? one : many; }
  return said.replace(/\{(\w+)\}/g, (whole, name) => filled[name] ?? whole);
}

export const MIN = 6e4, HOUR = 36e5, DAY = 864e5;
let zone = "UTC", cache = new Map();
export const useZone = name => { if (name !== zone) { zone = name; cache = new Map(); } };
/** Whether a number is a time at all (ECMA-262, 21.4.1.1): what services say may be none, and Intl throws at that. */
const isTime = t => Math.abs(t) <= 864e13;
const format = (name, options) => t => { if (!isTime(t)) return "—"; let f = cache.get(name); if (!f) cache.set(name, f = new Intl.DateTimeFormat(language === "en" ? "en-GB" : language, { timeZone: zone, ...options })); return f.format(t); };
export const hm = format("hm", { hour: "2-digit", minute: "2-digit" });
export const hms = format("hms", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const dm = format("dm", { day: "numeric", month: "short" });
export const date = format("date", { weekday: "long", day: "numeric", month: "long" });
export const wday = format("wday", { weekday: "short", day: "numeric", month: "short" });
export const dated = format("dated", { weekday: "short", day: "numeric", month: "short", year: "numeric" });
export const month = format("month", { month: "short", year: "numeric" });
export const year = format("year", { year: "numeric" });

const parts = (() => { let f = null, of = ""; return t => { if (of !== zone) { of = zone; f = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" }); } return Object.fromEntries(f.formatToParts(t).map(p => [p.type, p.value])); }; })();
/** Milliseconds by which the house's clocks are ahead of UTC at a time. */
const ahead = t => { const p = parts(t), whole = Math.floor(t / 1e3) * 1e3; return Date.UTC(p.year, p.month - 1, p.day, p.hour, p.minute, p.second) - whole; };
/** Time of a local date and time, written 2026-12-09T06:40[:00]; NaN where it is none. */
export function local(text) {
  const naive = Date.parse(`${text.length === 16 ? text + ":00" : text}Z`);
  return isTime(naive) ? naive - ahead(naive - ahead(naive)) : NaN;
}
export const iso = t => { const p = parts(t); return `${p.year}-${p.month}-${p.day}T${p.hour}:${p.minute}${p.second === "00" ? "" : ":" + p.second}`; };
export const midnight = t => { if (!isTime(t)) return NaN; const p = parts(t); return local(`${p.year}-${p.month}-${p.day}T00:00`); };
export const nextMidnight = t => midnight(midnight(t) + 26 * HOUR);
export const tzDate = ts => uPlot.tzDate(new Date(ts * 1e3), zone);

export const when = (t, now) => midnight(t) === midnight(now) ? hm(t) : Math.abs(now - t) < 300 * DAY ? `${dm(t)} ${hm(t)}` : dated(t);
export const long = ms => { const m = Math.round(ms / MIN); return ms < 55e3 ? t("{n} s", { n: Math.max(0, Math.round(ms / 1e3)) }) : m < 120 ? t("{n} min", { n: m }) : m < 2880 ? t("{h} h {m} min", { h: Math.floor(m / 60), m: m % 60 }) : t("{n} days", { n: Math.round(m / 1440) }); };

const COMMA = language === "en" ? "." : ",";
/** Whole and decimal part of a number: true minus, thin spaces, so many decimals. */
export const num = (v, decimals) => { const s = Math.abs(v).toFixed(decimals), [i, f] = s.split("."); return [(v < 0 && +s ? "−" : "") + i.replace(/\B(?=(\d{3})+$)/g, "\u202f"), f ? COMMA + f : ""]; };
export const plain = (v, decimals) => num(v, decimals).join("");
