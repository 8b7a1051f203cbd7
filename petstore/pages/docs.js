"use strict";
// The reference: a login, forms that send requests with its token, the filter of the contents, links that open what they lead to.
const all = (css, within = document) => [...within.querySelectorAll(css)];
const byId = (id) => document.getElementById(id);
const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const login = byId("login-form");
const who = byId("who");
const contents = byId("contents");
const narrow = matchMedia("(max-width: 63.99rem)");
const NO_LOGIN = ["/problems/unauthorized", "/problems/login-ended"];
const SHOWN = ["Location", "ETag", "X-Cache", "Idempotent-Replayed", "Retry-After", "RateLimit", "RateLimit-Policy", "WWW-Authenticate", "Allow", "X-Request-ID"];
const LONGEST = 20000; // characters of an answer that are shown
let tokens = null; // of the current login, with its email
let expiry;
let busy = false;

// ── The login ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function useToken(answer, email) {
  tokens = { ...answer, email };
  clearTimeout(expiry);
  expiry = setTimeout(forgetToken, answer.expires_in * 1000, "The access token has expired: log in again.");
  const until = new Date(Date.now() + answer.expires_in * 1000).toLocaleTimeString([], { timeStyle: "short" });
  showLogin(`Logged in as ${email}.`, `It lasts until ${until}. Requests that you try send its token.`);
  fail("");
}

function forgetToken(why) {
  tokens = null;
  clearTimeout(expiry);
  showLogin(why);
}

function showLogin(text, more = "") {
  who.textContent = text;
  byId("done").textContent = `${text} ${more}`;
  login.hidden = byId("log-in").hidden = tokens !== null;
  byId("done").hidden = byId("log-out").hidden = tokens === null;
}

// Shows an error of the login at the field that it is about, if it is about one.
function fail(text, pointer = "") {
  byId("failed").textContent = text;
  for (const field of [byId("email"), byId("password")]) {
    field.setAttribute("aria-invalid", String(pointer === `/${field.id}`));
  }
  if (pointer) byId(pointer.slice(1))?.focus();
}

async function send(path, body) {
  const sent = fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const response = await sent.catch(() => Promise.reject(new Error("The service does not answer. Is it still running?")));
  if (response.status === 204) return null;
  const notOurs = { detail: `The response (${response.status}) did not come from this service.` }; // but from a proxy, say
  const answer = await response.json().catch(() => notOurs);
  if (response.ok) return answer;
  const fault = answer.errors?.[0];
  const text = fault?.pointer ? `The ${fault.pointer.slice(1)} ${fault.detail}` : answer.detail;
  throw Object.assign(new Error(text), { type: answer.type, pointer: fault?.pointer });
}

async function register(account) {
  try {
    await send("/register", account);
  } catch (error) {
    if (error.type !== "/problems/email-taken") throw error; // the account exists: only log in
  }
}

login.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (busy) return; // ignores a double click
  busy = true;
  const account = { email: byId("email").value, password: byId("password").value };
  try {
    if (event.submitter?.name === "register") await register(account);
    useToken(await send("/login", account), account.email);
    byId("password").value = "";
  } catch (error) {
    fail(error.message, error.pointer);
  } finally {
    busy = false;
  }
});

byId("log-out").addEventListener("click", async () => {
  const { refresh_token } = tokens;
  forgetToken("Not logged in.");
  await send("/logout", { refresh_token }).catch((error) => fail(error.message));
});

// ── Forms that send a request ──────────────────────────────────────────────────────────────────────────────────────────

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function request(form) {
  const { method, path } = form.dataset;
  const [query, headers] = [new URLSearchParams(), new Headers()];
  const options = { method, headers, cache: "no-store" };
  let target = path;
  for (const { name, value, dataset } of all("input", form)) {
    if (dataset.in === "path") target = target.replace(`{${name}}`, encodeURIComponent(value));
    else if (value && dataset.in === "query") query.append(name, value);
    else if (value && dataset.in === "header") headers.set(name, value);
  }
  const body = form.querySelector("textarea");
  if (body) {
    headers.set("Content-Type", "application/json");
    options.body = body.value;
  }
  if (tokens && form.dataset.login) headers.set("Authorization", `Bearer ${tokens.access_token}`);
  return [query.size ? `${target}?${query}` : target, options];
}

function readable(text) {
  let shown = text;
  try {
    if (!/\d{16}/.test(text)) shown = JSON.stringify(JSON.parse(text), null, 2); // JSON.parse would round longer numbers
  } catch {} // it is no JSON
  return shown.length > LONGEST ? `${shown.slice(0, LONGEST)}\n… (${shown.length} characters)` : shown;
}

function show(place, response, text, milliseconds) {
  const problem = response.headers.get("Content-Type")?.startsWith("application/problem+json") ? JSON.parse(text) : null;
  const status = `${response.status} ${response.statusText}`;
  const parts = [make("p", {}, make("strong", { className: response.status < 400 ? "ok" : "bad", textContent: status }), ` ${milliseconds} ms`)];
  if (problem) {
    const link = make("a", { href: problem.type, target: "_blank", textContent: problem.title });
    const faults = (problem.errors ?? []).map((fault) => make("li", {}, `${fault.pointer ?? fault.parameter}: ${fault.detail}`));
    parts.push(make("div", { className: "failed" }, link, make("p", {}, problem.detail), ...(faults.length ? [make("ul", {}, ...faults)] : [])));
  }
  const headers = SHOWN.filter((name) => response.headers.has(name)).map((name) => `${name}: ${response.headers.get(name)}`);
  parts.push(make("pre", { className: "headers", tabIndex: 0 }, headers.join("\n")));
  if (text) parts.push(make("pre", { className: "body", tabIndex: 0 }, readable(text)));
  place.replaceChildren(...parts);
  return problem;
}

async function submit(event) {
  event.preventDefault();
  const form = event.target;
  const place = form.nextElementSibling;
  if (place.ariaBusy === "true") return; // ignores a double click
  place.ariaBusy = "true";
  const started = performance.now();
  try {
    const [target, options] = request(form);
    const response = await fetch(target, options);
    const text = await response.text();
    const problem = show(place, response, text, Math.round(performance.now() - started));
    if (NO_LOGIN.includes(problem?.type) && tokens) forgetToken(problem.detail);
    if (response.ok && /^\/(login|refresh)$/.test(target)) {
      useToken(JSON.parse(text), JSON.parse(options.body).email ?? tokens?.email ?? "the account tried here");
    }
  } catch (error) {
    const why = error instanceof TypeError ? `The request could not be sent: ${error.message}.` : error.message;
    place.replaceChildren(make("p", { className: "failed" }, why));
  } finally {
    place.ariaBusy = "false";
  }
}

for (const form of all("form.try")) {
  form.addEventListener("submit", submit);
  const body = form.querySelector("textarea");
  form.querySelector("select")?.addEventListener("change", (event) => (body.value = event.target.value));
  const key = form.querySelector("input[name='Idempotency-Key']");
  if (!key) continue;
  key.value = newKey();
  const anew = make("button", { type: "button", className: "plain", textContent: "New key" });
  anew.addEventListener("click", () => (key.value = newKey()));
  key.after(anew);
}

// ── Code ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

byId("main").addEventListener("change", ({ target }) => {
  if (target.type !== "radio") return;
  for (const other of all(`.tabs input[value="${target.value}"]`)) other.checked = true; // one language for all
});

// ── Contents ───────────────────────────────────────────────────────────────────────────────────────────────────────────

byId("filter").addEventListener("input", ({ target }) => {
  const words = target.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const line of all("[data-words]", contents)) {
    const text = `${line.textContent.toLowerCase()} ${line.dataset.words}`;
    line.hidden = !words.every((word) => text.includes(word));
    found += line.hidden ? 0 : 1;
  }
  for (const group of all("nav > ul > li", contents)) {
    const lines = all("[data-words]", group);
    group.hidden = lines.length ? lines.every((line) => line.hidden) : words.length > 0;
  }
  byId("found").textContent = `${found} ${found === 1 ? "request" : "requests"}`;
});

function fold() {
  contents.open = !narrow.matches;
}

// Opens what the address names, and scrolls to it. Addresses of earlier releases were #/tag/operation.
function follow() {
  const target = byId(location.hash.split("/").pop().replace(/^#/, ""));
  if (!target) return;
  if (target.tagName === "DETAILS") target.open = true;
  if (narrow.matches && target !== contents) contents.open = false;
  target.scrollIntoView();
  target.querySelector(":scope > summary")?.focus({ preventScroll: true });
}

narrow.addEventListener("change", fold);
addEventListener("hashchange", follow);
document.addEventListener("click", ({ target }) => {
  const link = target.closest("a[href^='#']");
  if (link && link.hash === location.hash) follow(); // the same link again fires no hashchange
});
fold();
follow();
