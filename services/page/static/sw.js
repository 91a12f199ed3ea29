// The shell opens without a network, and then says so: the page itself draws nothing that it was not told.
const SHELL = "shell-1";
self.addEventListener("install", e => { self.skipWaiting(); e.waitUntil(caches.open(SHELL).then(c => c.addAll(["./", "page.css", "page.js", "uPlot.iife.min.js", "icon.svg", "words/en.json", "words/fr.json", "words/de.json", ...["words", "dom", "address", "house", "grammar", "boiler", "now", "history", "chart", "alerts", "proof", "services", "passkeys", "kiosk", "key", "frame", "link"].map(n => `${n}.js`)]))); });
self.addEventListener("activate", e => e.waitUntil(self.clients.claim()));
self.addEventListener("fetch", e => {
  const url = new URL(e.request.url);
  if (e.request.method !== "GET" || url.origin !== location.origin || url.pathname.includes("/api/") || url.pathname.endsWith("/link.html")) return;
  const shell = e.request.mode === "navigate" ? new Request("./") : e.request;
  e.respondWith(fetch(e.request).then(answer => { if (answer.ok) { const copy = answer.clone(); caches.open(SHELL).then(c => c.put(shell, copy)); } return answer; }, () => caches.match(shell).then(kept => kept ?? Response.error())));
});
