"use strict";
// Swagger UI on this service's own document, and a login whose token every request that is tried then carries.
const form = document.getElementById("login");
const who = document.getElementById("who");
const refused = document.getElementById("refused");
const dark = matchMedia("(prefers-color-scheme: dark)");
const NO_LOGIN = ["/problems/unauthorized", "/problems/login-ended"];
let expiry;
let busy = false;

const reference = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  responseInterceptor: (answer) => {
    const said = answer.obj ?? {};
    if (answer.ok && /\/(login|refresh)$/.test(answer.url)) useToken(said);
    if (NO_LOGIN.includes(said.type)) forgetToken(said.detail);
    explain(answer.ok ? null : said);
    return answer;
  },
});

function useToken(tokens) {
  reference.preauthorizeApiKey("access_token", tokens.access_token);
  clearTimeout(expiry);
  expiry = setTimeout(forgetToken, tokens.expires_in * 1000, "The access token has expired: log in again.");
  const until = new Date(Date.now() + tokens.expires_in * 1000).toLocaleTimeString([], { timeStyle: "short" });
  who.textContent = `Logged in until ${until}: every request that you try carries the token.`;
}

function forgetToken(why) {
  clearTimeout(expiry);
  reference.authActions.logout(["access_token"]);
  who.textContent = why;
}

// A link to the page of the error that the last try was answered with.
function explain(problem) {
  if (!problem?.type) return refused.replaceChildren();
  const page = Object.assign(document.createElement("a"), { href: problem.type, target: "_blank", textContent: problem.title });
  refused.replaceChildren(`Refused with ${problem.status}: `, page);
}

async function send(path) {
  const body = JSON.stringify({ email: form.elements.email.value, password: form.elements.password.value });
  const sent = fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const answer = await sent.catch(() => Promise.reject(new Error("The service does not answer. Is it still running?")));
  const said = await answer.json().catch(() => ({ detail: `The answer was ${answer.status}, and none of this service's.` }));
  if (answer.ok) return said;
  const fault = said.errors?.[0];
  throw new Error(fault ? `The ${fault.pointer.slice(1)} ${fault.detail}` : said.detail);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (busy) return; // of a double click, one
  busy = true;
  try {
    if (event.submitter?.name === "register") await send("/register");
    useToken(await send("/login"));
    form.elements.password.value = "";
  } catch (error) {
    who.textContent = error.message;
  } finally {
    busy = false;
  }
});

// Open the operation that the address names, and go there: Swagger UI does so only once.
function follow() {
  reference.layoutActions.parseDeepLinkHash(decodeURIComponent(location.hash));
  const [, tag, name] = location.hash.split("/");
  requestAnimationFrame(() => document.getElementById(`operations-${tag}-${name}`)?.scrollIntoView());
}

addEventListener("hashchange", follow);
document.querySelector("aside ol").addEventListener("click", (event) => {
  if (event.target.hash && event.target.hash === location.hash) follow(); // which is no change
});

function colour() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

dark.addEventListener("change", colour);
colour();
