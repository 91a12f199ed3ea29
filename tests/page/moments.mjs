// The page's own module of the house, without a browser: what it shows of a past moment, and how it plays on from there.
// Called with the folder of the page's modules; ends with an error where something is not as it must be.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const folder = pathToFileURL(`${process.argv[2]}/`), asked = [];
globalThis.location = { search: "?at=2026-11-20T03:00", origin: "http://house" };
globalThis.history = { replaceState: (_s, _t, to) => { location.search = to; }, pushState: (_s, _t, to) => { location.search = to; } };
globalThis.document = { documentElement: {} };
globalThis.addEventListener = () => {};
Object.defineProperty(globalThis, "navigator", { value: { languages: ["en"] } });
globalThis.fetch = path => path.startsWith("words/")
  ? readFile(new URL(path, folder), "utf8").then(text => ({ json: () => JSON.parse(text) }))
  : new Promise(tell => asked.push({ at: +path.split("=")[1], answer: value => tell({ ok: true, json: async () => house_(value) }) }));
const house_ = value => ({ values: { water: { value, time: 1 } }, alerts: { hot: { state: "firing", since: value } } });
let clock = 1000;
performance.now = () => clock;
const settled = () => new Promise(resolve => setImmediate(resolve));

const { firing, house, look, play, player, state, stood, travel } = await import(new URL("house.js", folder));
const { go, past } = await import(new URL("address.js", folder));
Object.assign(house, { ready: true, topics: { water: { name: "water", stored: true, kind: "gauge" } }, alerts: { live: { state: "firing", since: 1 } } });
const seen = () => { const s = state(); return [look("water", s).value, firing(s).map(a => a.name).join()]; };

// what stood at one moment is not shown under the time of another
assert.deepEqual(seen(), [undefined, ""], "nothing is known of it yet, and what fires now did not fire then");
const three = past(); travel(three); travel(three);
assert.equal(asked.length, 1, "nobody asks twice");
asked.shift().answer(1); await settled();
assert.deepEqual(seen(), [1, "hot"]);
go({ at: "2026-11-20T03:10" }, true);
assert.deepEqual(seen(), [undefined, ""], "the value of 03:00 is none of 03:10");
travel(past()); go({ at: "2026-11-20T03:20" }, true); travel(past());
asked.shift().answer(2); await settled();
assert.deepEqual(seen(), [undefined, ""], "an answer that comes late is of another moment");
asked.shift().answer(3); await settled();
assert.deepEqual(seen(), [3, "hot"]);

// playing steps when the answer is here, not before, and loses no time for it
Object.assign(player, { speed: 600, stepped: clock });
const began = past(); clock += 1000; play(); play();
assert.equal(asked.length, 1); assert.equal(past(), began, "it stays until it knows what stood there");
assert.deepEqual(seen(), [3, "hot"]);
clock += 1200; play(); assert.equal(asked.length, 1, "one question at a time");
let one = asked.shift(); assert.equal(one.at, began + 600e3); one.answer(4); await settled();
assert.deepEqual([past(), stood.at, ...seen()], [began + 600e3, began + 600e3, 4, "hot"]);
clock += 800; play(); one = asked.shift();
assert.equal(one.at, began + 600e3 + 2 * 600e3, "two seconds after the last step it goes on by two");
player.speed = 0; one.answer(5); await settled();
assert.deepEqual([past(), seen()[0]], [began + 600e3, 4], "who stopped it is not taken further");
assert.equal(player.busy, false);
