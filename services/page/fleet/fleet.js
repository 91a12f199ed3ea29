// The page of a fleet. Everything that houses say is put in as text, never as HTML.

const main = document.getElementById("main"), told = document.getElementById("told"), meAt = document.getElementById("me");
let me = { name: null, role: null }, drawn = 0;

function el(name, content = [], given = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(given)) key in made ? (made[key] = value) : made.setAttribute(key, value);
  made.append(...[content].flat().map((one) => (one instanceof Node ? one : String(one ?? ""))));
  return made;
}

async function ask(path, body) {
  const given = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(`/api/1/${path}`, given);
  const content = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(content.error), { status: answer.status });
  return content;
}

const when = (ms) => (ms ? new Date(ms).toLocaleString() : "never");
const span = (ms) => (ms > 5400000 ? `${(ms / 3600000).toFixed(1)} h` : `${Math.round(ms / 60000)} min`);
const number = (value) => (typeof value === "number" ? value.toLocaleString(undefined, { maximumFractionDigits: 3 }) : (value ?? ""));

function table(head, rows) {
  const cell = (name, text) => el(name, text instanceof Node ? text : number(text), typeof text === "number" ? { className: "n" } : {});
  const body = rows.map(({ kind, cells }) => el("tr", cells.map((text) => cell("td", text)), { className: kind || "" }));
  return el("div", el("table", [el("thead", el("tr", head.map((text) => el("th", text, { scope: "col" })))), el("tbody", body)]), { className: "wide" });
}

async function houses() {
  const found = await ask("houses");
  const bad = found.filter((one) => one.state === "lacking" || one.state === "silent").length;
  return [
    el("p", `${found.length} houses, ${bad ? `${bad} of them silent or lacking something here` : "all whole"}`, { className: bad ? "bad" : "" }),
    table(["House", "State", "Newest reading", "Last heard", "Taken", "Waiting there", "Dropped there", "Gaps here", "Shard", "Version"], found.map((one) => ({
      kind: one.state,
      cells: [el("a", one.name, { href: `#/houses/${one.name}` }), one.state, when(one.newest), when(one.heard), one.taken, one.waiting, one.dropped,
        one.gaps ? `${one.gaps}, ${span(one.lacking)}` : "none", one.shard, one.version],
    }))),
  ];
}

async function house(name) {
  const { house, services, topics, stored_today } = await ask(`houses/${name}`);
  const curve = el("figure", [], { id: "curve" });
  const show = async (topic) => {
    const from = new Date(Date.now() - 86400000).toISOString();
    const { points, unit } = await ask(`houses/${name}/curve?topic=${encodeURIComponent(topic)}&from=${from}`);
    curve.replaceChildren(el("figcaption", `${topic}, ${unit}, the last day`), draw(points));
  };
  const parts = [
    el("h2", name),
    el("p", `${house.state}; newest reading ${when(house.newest)}; ${stored_today} readings of the last day stored here, ${house.waiting} wait there, ${house.gaps} gaps`),
    table(["Service", "State", "Ask it to"], Object.entries(services).map(([service, state]) => ({ cells: [service, state, acts(name, service)] }))),
    curve,
    table(["Topic", "Label", "Value", "Unit", "Time"], topics.map((one) => ({
      cells: [el("button", one.name, { type: "button", onclick: () => act(() => show(one.name)) }), one.label, one.value, one.unit, when(one.time)],
    }))),
  ];
  if (me.role !== "installer") parts.push(el("p", el("a", "Export the last 30 days (CSV)", { href: `/api/1/houses/${name}/export?from=${new Date(Date.now() - 30 * 86400000).toISOString()}` })));
  if (me.role === "operator" && house.state === "out") parts.push(el("button", `Delete all of ${name}`, { type: "button", className: "bad", onclick: () => act(async () => {
    const confirm = window.prompt(`Everything of ${name} is deleted here. Write its name once more:`);
    if (confirm !== null) { const { readings } = await ask(`houses/${name}/erase`, { confirm }); location.hash = "#/"; told.textContent = `${readings} readings are deleted`; }
  }) }));
  return parts;
}

function acts(name, service) {
  if (me.role === "owner") return "";
  return el("span", ["read", "pause", "resume", "reload"].map((verb) => el("button", verb, { type: "button", onclick: () => act(async () => {
    const answer = await ask(`houses/${name}/services/${service}/${verb}`, {});
    told.textContent = `${service}: ${JSON.stringify(answer)}`;
  }) })));
}

function draw(points) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  if (points.length < 2) return el("p", "nothing was stored");
  const low = Math.min(...points.map((p) => p[2])), high = Math.max(...points.map((p) => p[3])), first = points[0][0], last = points.at(-1)[0];
  const at = (p) => `${((p[0] - first) / (last - first)) * 1000},${100 - ((p[1] - low) / (high - low || 1)) * 100}`;
  svg.setAttribute("viewBox", "0 0 1000 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `from ${number(low)} to ${number(high)}`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.map(at).join(" "));
  svg.append(line);
  return el("div", [svg, el("p", `${number(low)} to ${number(high)}`)]);
}

async function months(topic = "house/electricity/import_energy") {
  const found = await ask(`months?topic=${encodeURIComponent(topic)}`);
  const all = [...new Set(Object.values(found).flat().map((one) => one.month))].sort();
  const form = el("form", [el("label", "Counter", { htmlFor: "topic" }), el("input", [], { id: "topic", value: topic }), el("button", "Compare")],
    { onsubmit: (event) => { event.preventDefault(); location.hash = `#/months/${encodeURIComponent(event.target.topic.value)}`; } });
  const rows = (key) => Object.entries(found).map(([name, given]) => ({
    cells: [name, ...all.map((month) => given.find((one) => one.month === month)?.[key] ?? "")],
  }));
  return [form, el("h2", topic), table(["House", ...all], rows("counted")), el("h2", "Fuel per degree day, kg/(K·d)"), table(["House", ...all], rows("intensity"))];
}

function login() {
  const form = el("form", [el("label", "Name", { htmlFor: "name" }), el("input", [], { id: "name", autocomplete: "username", required: true }),
    el("label", "Password", { htmlFor: "password" }), el("input", [], { id: "password", type: "password", autocomplete: "current-password", required: true }), el("button", "Log in")]);
  form.onsubmit = (event) => { event.preventDefault(); act(async () => { await ask("login", { name: form.elements.name.value, password: form.elements.password.value }); await begin(); }); };
  return [form];
}

async function act(work) {
  told.textContent = "";
  try { await work(); } catch (error) { told.textContent = error.message; }
}

let since = Date.now();

// What cannot be asked for any more is grey and says since when, and what has not changed is left alone: it may have the focus.
async function refresh() {
  try { await show(); since = Date.now(); main.classList.remove("gone"); }
  catch (error) { main.classList.add("gone"); told.textContent = `The centre does not answer (${error.message}); this is of ${when(since)}`; }
}

async function show() {
  const turn = ++drawn, [, what = "", name = ""] = location.hash.split("/").map(decodeURIComponent);
  const parts = !me.name ? login() : what === "houses" ? await house(name) : what === "months" ? await months(name || undefined) : await houses();
  if (turn === drawn && parts.map((part) => part.outerHTML).join("") !== main.innerHTML) main.replaceChildren(...parts);
}

async function begin() {
  me = await ask("me");
  meAt.replaceChildren(...(me.name ? [`${me.name}, ${me.role} `, el("button", "Log out", { type: "button", onclick: () => act(async () => { await ask("logout", {}); await begin(); }) })] : []));
  await show();
}

window.addEventListener("hashchange", () => act(show));
setInterval(() => { if (me.name && (location.hash || "#/") === "#/") refresh(); }, 5000);
act(begin);
