// A chart: a panel for each unit, one time axis and one cursor. Mean as a line, lowest and highest as its ground; what nobody
// stored is hatched, and no line crosses it. (uPlot, github.com/leeoniya/uPlot, lies beside this.)
import { DAY, HOUR, dm, hm, plain, t, tzDate, year } from "./words.js";
import { $$ } from "./dom.js";
import { HEIGHT } from "./boiler.js";
import { house, label, word } from "./house.js";

export const DASH = [[], [9, 3], [2, 3], [9, 3, 2, 3]];
const FIRE = { ignition: "--fire-1", combustion: "--fire-2", burnout: "--fire-3", keep_fire: "--fire-4", prepurge: "--fire-0" };
let plots = [], watch = null;
export const destroy = () => { plots.forEach(p => p.destroy()); plots = []; watch?.disconnect(); };

/** Draw series of an answer into a node. `more`: phases, flags, tell(index, time), zoom(from, to). */
export function draw(node, answer, more) {
  destroy(); node.replaceChildren();
  const lines = answer.series.map((one, n) => ({ ...one, n })).filter(one => !one.words?.length && house.topics[one.topic].kind !== "state");
  const states = answer.series.filter(one => house.topics[one.topic].kind === "state"), units = [...new Set(lines.map(one => one.unit))];
  if (!units.length) units.push("");
  const height = i => Math.max(90, Math.round(node.clientHeight * (units.length === 1 ? 1 : i ? .55 / (units.length - 1) : .45)));
  plots = units.map((unit, i) => panel(node.appendChild(document.createElement("div")), unit, lines.filter(one => one.unit === unit), { ...more, answer, states, first: i === 0, last: i === units.length - 1 }, height(i)));
  watch = new ResizeObserver(() => plots.forEach((p, i) => { if (p.width !== node.clientWidth || p.height !== height(i)) p.setSize({ width: node.clientWidth, height: height(i) }); })); watch.observe(node);
  node.onkeydown = e => { const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[e.key]; if (!step || e.altKey) return; e.preventDefault(); const times = plots[0].data[0], i = Math.max(0, Math.min(times.length - 1, (plots[0].cursor.idx ?? times.length - 1) + step)); plots[0].setCursor({ left: plots[0].valToPos(times[i], "x"), top: 10 }); };
  gestures(node, answer, more.zoom);
  return plots;
}

/** One table of times for all series: uPlot wants one axis; what one has not, is no hole of another. */
function aligned(lines) {
  const times = [...new Set(lines.flatMap(one => one.t))].sort((a, b) => a - b), at = new Map(times.map((x, i) => [x, i]));
  const column = (one, name) => { const out = Array(times.length).fill(undefined); one.t.forEach((x, i) => { out[at.get(x)] = one[name][i]; }); return out; };
  return [times.map(x => x / 1e3), ...lines.flatMap(one => [column(one, "high"), column(one, "low"), column(one, "mean")])];
}

function panel(node, unit, lines, more, height) {
  const { answer, phases, flags, first, last, states } = more, from = answer.from, to = answer.to, css = getComputedStyle(document.body), c = n => css.getPropertyValue(n).trim(), color = one => c(`--s${one.n % 4 + 1}`), data = aligned(lines), series = [{}], bands = [];
  if (!data[0].length) data[0] = [from / 1e3, to / 1e3];
  lines.forEach((one, i) => { const o = { scale: "y", spanGaps: false, points: { show: false } }; series.push({ ...o, stroke: color(one) + "80", width: .8 }, { ...o, stroke: color(one) + "80", width: .8 }, { ...o, label: label(one.topic, true), stroke: color(one), width: 1.6, dash: DASH[one.n % 4], points: { show: one.t.length < 3, size: 6 } }); bands.push({ series: [1 + i * 3, 2 + i * 3], fill: color(one) + "26" }); });
  const all = lines.length ? lines[0].holes.filter(h => lines.every(o => o.holes.some(g => g[0] <= h[0] + o.step && g[1] >= h[1] - o.step))) : states.flatMap(o => o.words.filter(w => w[0] === "unknown").map(w => [w[1], w[2]])), span = to - from, boiler = phases.length > 0, wide = node.clientWidth > 640;
  const hatch = (ctx, x0, x1, y0, y1) => { ctx.save(); ctx.beginPath(); ctx.rect(x0, y0, x1 - x0, y1 - y0); ctx.clip(); ctx.strokeStyle = c("--void"); ctx.lineWidth = 1.25 * devicePixelRatio; ctx.beginPath(); const step = 8 * devicePixelRatio; for (let x = x0 - (y1 - y0) - (x0 - (y1 - y0)) % step; x < x1; x += step) { ctx.moveTo(x, y1); ctx.lineTo(x + (y1 - y0), y0); } ctx.stroke(); ctx.restore(); };
  const under = u => { const { ctx, bbox: bb } = u, r = devicePixelRatio, X = at => u.valToPos(at / 1e3, "x", true); ctx.save();
    for (const p of phases) if (p.phase === "combustion") { ctx.fillStyle = c("--fire-2"); ctx.globalAlpha = .13; ctx.fillRect(X(p.from), bb.top, X(p.to) - X(p.from), bb.height); }
    ctx.globalAlpha = 1; for (const [a, z] of all) hatch(ctx, X(a), Math.max(X(a) + 2, X(z)), bb.top, bb.top + bb.height);
    lines.forEach((one, i) => one.holes.filter(h => !all.includes(h) && !all.some(g => g[0] === h[0])).forEach(([a, z]) => hatch(ctx, X(a), X(z), bb.top + i * 10 * r, bb.top + (i * 10 + 8) * r))); ctx.restore(); };
  const over = u => { const { ctx, bbox: bb } = u, r = devicePixelRatio, X = at => u.valToPos(at / 1e3, "x", true); ctx.save(); ctx.beginPath(); ctx.rect(0, 0, ctx.canvas.width, ctx.canvas.height); ctx.font = `${12 * r}px ${c("--type")}`; ctx.setLineDash([]);
    if (boiler && last) for (const p of phases) if (FIRE[p.phase]) { const x0 = X(p.from), hh = 22 * r * HEIGHT[p.phase]; ctx.fillStyle = c(FIRE[p.phase]); ctx.fillRect(x0, bb.top + bb.height - hh, Math.max(1, X(p.to) - x0), hh); }
    for (const [a, z] of all) { if (X(z) - X(a) < 22 * r) continue; const text = `${t("nothing stored")} ${span > 8 * DAY ? `${dm(a)} – ${dm(z)}` : `${hm(a)} – ${hm(z)}`}`, w = ctx.measureText(text).width + 12 * r, flat = X(z) - X(a) > w + 10 * r; ctx.save(); ctx.translate((X(a) + X(z)) / 2, bb.top + bb.height * .3); if (!flat) ctx.rotate(-Math.PI / 2); ctx.fillStyle = c("--paper"); ctx.fillRect(-w / 2, -9 * r, w, 18 * r); ctx.fillStyle = c("--ink"); ctx.textAlign = "center"; ctx.fillText(text, 0, 4 * r); ctx.restore(); }
    for (const a of flags) { const x = X(a.since), y = bb.top - 2 * r; ctx.beginPath(); ctx.moveTo(x, y); ctx.lineTo(x - 5 * r, y - 10 * r); ctx.lineTo(x + 5 * r, y - 10 * r); ctx.closePath(); ctx.fillStyle = c("--alarm"); ctx.strokeStyle = c("--alarm"); ctx.lineWidth = 1.2 * r; if (first) { if (a.until) { ctx.fillStyle = c("--paper"); ctx.fill(); ctx.stroke(); } else ctx.fill(); } ctx.lineWidth = r; ctx.setLineDash([2 * r, 4 * r]); ctx.beginPath(); ctx.moveTo(x, y); ctx.lineTo(x, bb.top + bb.height); ctx.stroke(); ctx.setLineDash([]); }
    const used = []; for (const one of lines) { const d = house.topics[one.topic], col = color(one); let n = one.t.length - 1; while (n >= 0 && one.mean[n] === null) n--; if (n < 0) continue;
      let y = u.valToPos(one.mean[n], "y", true); while (used.some(v => Math.abs(v - y) < 14 * r)) y += 4 * r; used.push(y); ctx.fillStyle = col; ctx.textAlign = "left"; if (wide) ctx.fillText(label(one.topic), bb.left + bb.width + 6 * r, y + 4 * r);
      const s = spike(one); if (s) { const px = X(one.t[s.i] + one.step / 2), py = u.valToPos(s.value, "y", true), right = px > bb.left + bb.width * .85; ctx.beginPath(); ctx.arc(px, py, 3.5 * r, 0, 7); ctx.fillStyle = c("--paper"); ctx.fill(); ctx.strokeStyle = col; ctx.lineWidth = 1.6 * r; ctx.stroke(); ctx.fillStyle = c("--ink"); ctx.textAlign = right ? "right" : "left"; ctx.fillText(`${plain(s.value, d.decimals)}${wide ? ` ${t("once, {time}", { time: span > 8 * DAY ? dm(one.t[s.i]) : hm(one.t[s.i]) })}` : ""}`, px + (right ? -8 : 8) * r, py + 4 * r); } }
    ctx.restore(); };
  const axis = { stroke: c("--soft"), font: `12px ${c("--type")}`, grid: { stroke: c("--rule"), width: 1 }, ticks: { stroke: c("--rule"), width: 1, size: 4 } };
  const padded = (u, lo, hi) => { if (lo === null || hi === null) return [0, 1]; const d = (hi - lo || Math.abs(hi) * .1 || 1) * .08; return [lo - d * (boiler && last ? 2.6 : 1), hi + d]; };
  const opts = { width: node.clientWidth, height, padding: [first ? 16 : 6, wide ? 84 : 12, 0, 0], tzDate, legend: { show: false }, cursor: { y: false, sync: { key: "house" }, points: { size: 6 }, drag: { x: true, y: false, setScale: false } }, scales: { x: { time: true, range: () => [from / 1e3, to / 1e3] }, y: { range: padded } }, series, bands,
    axes: [{ ...axis, space: 70, size: last ? 32 : 4, values: (u, sp, ai, sp2, inc) => !last ? [] : sp.map(at => inc >= 300 * 86400 ? year(at * 1e3) : inc >= 864e2 ? dm(at * 1e3) : hm(at * 1e3) === "00:00" ? dm(at * 1e3) : hm(at * 1e3)) }, { ...axis, scale: "y", size: 54, space: 44, values: (u, v) => v.map((x, n) => n === v.length - 1 ? `${x} ${unit}` : x) }],
    hooks: { drawClear: [under], draw: [over], setCursor: [u => first && more.tell(u.cursor.idx === null || u.cursor.idx === undefined ? null : data[0][u.cursor.idx] * 1e3)], setSelect: [u => { if (u.select.width > 4) { more.zoom(u.posToVal(u.select.left, "x") * 1e3, u.posToVal(u.select.left + u.select.width, "x") * 1e3); u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false); } }] } };
  return new uPlot(opts, data, node);
}

/** The reading that stands out of a series, if one does: more than three times the usual distance from its mean. */
export function spike(one) {
  const gaps = one.mean.map((v, i) => v === null || one.high[i] === null ? 0 : Math.max(one.high[i] - v, v - one.low[i])), sorted = gaps.filter(g => g > 0).sort((a, b) => a - b);
  if (sorted.length < 8) return null;
  const usual = sorted[Math.floor(sorted.length * .9)], i = gaps.indexOf(sorted.at(-1));
  return gaps[i] > 3 * usual ? { i, value: one.high[i] - one.mean[i] >= one.mean[i] - one.low[i] ? one.high[i] : one.low[i] } : null;
}

// ---- wheel, pinch and drag change the span
function gestures(node, answer, zoom) {
  const u = plots[0], at = x => u.posToVal(x - u.over.getBoundingClientRect().left, "x") * 1e3, pointers = new Map(); let wait = null, span = [answer.from, answer.to], pan = null;
  const soon = (a, z) => { span = [a, z]; clearTimeout(wait); wait = setTimeout(() => zoom(a, z), 160); };
  node.onwheel = e => { e.preventDefault(); const [a, z] = span, length = z - a; if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) { const d = (e.deltaX || e.deltaY) / 800 * length; soon(a + d, z + d); } else { const k = Math.exp(Math.max(-1, Math.min(1, e.deltaY / 400))), p = at(e.clientX); soon(p - (p - a) * k, p + (z - p) * k); } };
  node.onpointerdown = e => { pointers.set(e.pointerId, e.clientX); pan = e.pointerType === "touch" ? { span: [...span], points: new Map(pointers) } : null; };
  node.onpointermove = e => { if (!pan || !pointers.has(e.pointerId)) return; pointers.set(e.pointerId, e.clientX); const ids = [...pan.points.keys()], [a, z] = pan.span, width = u.over.clientWidth, per = (z - a) / width; if (ids.length === 1) { const d = (pan.points.get(ids[0]) - pointers.get(ids[0])) * per; if (Math.abs(d) > 8 * per) soon(a + d, z + d); } else { const was = Math.abs(pan.points.get(ids[0]) - pan.points.get(ids[1])), is = Math.max(20, Math.abs(pointers.get(ids[0]) - pointers.get(ids[1]))), k = was / is, mid = (a + z) / 2; soon(mid - (mid - a) * k, mid + (z - mid) * k); } };
  node.onpointerup = node.onpointercancel = e => { pointers.delete(e.pointerId); pan = null; };
}
export { $$, HOUR, word };
