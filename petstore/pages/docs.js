"use strict";
// Swagger UI for the OpenAPI document of this service, and a login form. Requests that are tried out send the token of the login.
const form = document.getElementById("login");
const who = document.getElementById("who");
const failed = document.getElementById("failed");
const refused = document.getElementById("refused");
const logOut = document.getElementById("log-out");
const dark = matchMedia("(prefers-color-scheme: dark)");
const NO_LOGIN = ["/problems/unauthorized", "/problems/login-ended"];
let login = null; // tokens of the current login, and its email
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
  responseInterceptor: (response) => {
    const body = response.obj ?? {};
    if (response.ok && /\/(login|refresh)$/.test(response.url)) useToken(body, login?.email ?? "the account tried here");
    if (NO_LOGIN.includes(body.type)) forgetToken(body.detail);
    explain(response.ok ? null : body);
    return response;
  },
});

function useToken(tokens, email) {
  login = { ...tokens, email };
  reference.preauthorizeApiKey("access_token", tokens.access_token);
  clearTimeout(expiry);
  expiry = setTimeout(forgetToken, tokens.expires_in * 1000, "The access token has expired: log in again.");
  const until = new Date(Date.now() + tokens.expires_in * 1000).toLocaleTimeString([], { timeStyle: "short" });
  who.textContent = `Logged in as ${email} until ${until}. Requests that you try send the token.`;
  failed.textContent = "";
  logOut.hidden = false;
}

function forgetToken(why) {
  login = null;
  clearTimeout(expiry);
  reference.authActions.logout(["access_token"]);
  who.textContent = why;
  logOut.hidden = true;
}

// Links to the page that explains the error of the last request.
function explain(problem) {
  if (!problem?.type) return refused.replaceChildren();
  const page = Object.assign(document.createElement("a"), { href: problem.type, target: "_blank", textContent: problem.title });
  refused.replaceChildren(`Refused with ${problem.status}: `, page);
}

async function send(path, body) {
  const sent = fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const response = await sent.catch(() => Promise.reject(new Error("The service does not answer. Is it still running?")));
  if (response.status === 204) return null;
  const notOurs = { detail: `The response (${response.status}) did not come from this service.` }; // but from a proxy, say
  const answer = await response.json().catch(() => notOurs);
  if (response.ok) return answer;
  const fault = answer.errors?.[0];
  throw Object.assign(new Error(fault ? `The ${fault.pointer.slice(1)} ${fault.detail}` : answer.detail), { type: answer.type });
}

async function register(account) {
  try {
    await send("/register", account);
  } catch (error) {
    if (error.type !== "/problems/email-taken") throw error; // the account exists: only log in
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (busy) return; // ignores a double click
  busy = true;
  const account = { email: form.elements.email.value, password: form.elements.password.value };
  try {
    if (event.submitter?.name === "register") await register(account);
    useToken(await send("/login", account), account.email);
    form.elements.password.value = "";
  } catch (error) {
    failed.textContent = error.message;
  } finally {
    busy = false;
  }
});

logOut.addEventListener("click", async () => {
  const { refresh_token } = login;
  forgetToken("Not logged in.");
  await send("/logout", { refresh_token }).catch((error) => (failed.textContent = error.message));
});

// Opens the operation in the URL and scrolls to it. Swagger UI does so only when the page loads.
function follow() {
  const [, tag, name] = /^#\/([\w%]+)\/(\w+)$/.exec(location.hash) ?? [];
  if (!name) return;
  reference.layoutActions.parseDeepLinkHash(location.hash);
  requestAnimationFrame(() => {
    const operation = document.getElementById(`operations-${tag}-${name}`);
    operation?.scrollIntoView();
    operation?.querySelector("button")?.focus({ preventScroll: true });
  });
}

addEventListener("hashchange", follow);
document.querySelector("aside ol").addEventListener("click", (event) => {
  if (event.target.hash && event.target.hash === location.hash) follow(); // the same link again fires no hashchange
});

function colour() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

dark.addEventListener("change", colour);
colour();
