// HTML from templates, and a way to bring it into the page that touches only what changed.
class Raw { constructor(s) { this.s = s; } }
const esc = v => v instanceof Raw ? v.s : Array.isArray(v) ? v.map(esc).join("") : v === null || v === undefined || v === false ? "" : String(v).replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);
/** HTML in which everything filled in is escaped, unless it is HTML itself. */
export const html = (s, ...v) => new Raw(s.reduce((a, part, i) => a + esc(v[i - 1]) + part));
export const raw = s => new Raw(s);
export const off = on => on && raw("disabled");
export const $ = (q, n = document) => n.querySelector(q);
export const $$ = (q, n = document) => [...n.querySelectorAll(q)];
export const mark = (name, word) => html`<svg class="m" aria-hidden="true"><use href="#m-${name}"/></svg>${word && html`<span class="vh">${word}</span>`}`;

/** A sentence whose <b>…</b> stays and whose rest is escaped: for what a catalog says. */
export const rich = text => raw(esc(text).replace(/&#60;(\/?(b|small))&#62;/g, "<$1>"));

const box = document.createElement("template");
/** Let a node hold some HTML; what is there already and the same is not touched, so focus, scroll and selection stay. */
export function put(node, content) { box.innerHTML = esc(content); children(node, box.content); }
/** The same for one node that is replaced by another of its kind. */
export function become(node, content) { box.innerHTML = esc(content).trim(); same(node, box.content.firstElementChild) ? morph(node, box.content.firstElementChild) : node.replaceWith(box.content.firstElementChild); }
const key = n => n.nodeType === 1 ? n.id || n.dataset?.k || n.dataset?.key : null;
const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);
function children(old, fresh) {
  let at = old.firstChild;
  for (const want of [...fresh.childNodes]) {
    let found = at;
    if (!at || !same(at, want)) { found = null; if (key(want)) for (let n = at; n; n = n.nextSibling) if (same(n, want)) { found = n; break; } }
    if (!found) { old.insertBefore(want, at); continue; }
    if (found !== at) old.insertBefore(found, at); else at = at.nextSibling;
    morph(found, want);
  }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
}
function morph(old, want) {
  if (old.nodeType !== 1) { if (old.data !== want.data) old.data = want.data; return; }
  if (old.hasAttribute("data-own")) return;                  // somebody else draws in here
  for (const { name, value } of want.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!want.hasAttribute(name) && !(name === "open" && old.localName === "details")) old.removeAttribute(name);
  if (old === document.activeElement && /^(INPUT|SELECT|TEXTAREA)$/.test(old.nodeName)) return;
  children(old, want);
}
