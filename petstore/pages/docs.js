"use strict";
// Swagger UI on this service's own document, and a login whose token every request that is tried then carries.
const form = document.getElementById("login");
const who = document.getElementById("who");
const failed = document.getElementById("failed");
const refused = document.getElementById("refused");
const leave = document.getElementById("log-out");
const dark = matchMedia("(prefers-color-scheme: dark)");
const NO_LOGIN = ["/problems/unauthorized", "/problems/login-ended"];
let login = null; // the tokens that requests carry, and whose they are
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
    if (answer.ok && /\/(login|refresh)$/.test(answer.url)) useToken(said, login?.email ?? "tried above");
    if (NO_LOGIN.includes(said.type)) forgetToken(said.detail);
    explain(answer.ok ? null : said);
    return answer;
  },
});

function useToken(tokens, email) {
  login = { ...tokens, email };
  reference.preauthorizeApiKey("access_token", tokens.access_token);
  clearTimeout(expiry);
  expiry = setTimeout(forgetToken, tokens.expires_in * 1000, "The access token has expired: log in again.");
  const until = new Date(Date.now() + tokens.expires_in * 1000).toLocaleTimeString([], { timeStyle: "short" });
  who.textContent = `Logged in as ${email} until ${until}: every request that you try carries the token.`;
  failed.textContent = "";
  leave.hidden = false;
}

function forgetToken(why) {
  login = null;
  clearTimeout(expiry);
  reference.authActions.logout(["access_token"]);
  who.textContent = why;
  leave.hidden = true;
}

// A link to the page of the error that the last try was answered with.
function explain(problem) {
  if (!problem?.type) return refused.replaceChildren();
  const page = Object.assign(document.createElement("a"), { href: problem.type, target: "_blank", textContent: problem.title });
  refused.replaceChildren(`Refused with ${problem.status}: `, page);
}

async function send(path, body) {
  const sent = fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const answer = await sent.catch(() => Promise.reject(new Error("The service does not answer. Is it still running?")));
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({ detail: `The answer was ${answer.status}, and none of this service's.` }));
  if (answer.ok) return said;
  const fault = said.errors?.[0];
  throw Object.assign(new Error(fault ? `The ${fault.pointer.slice(1)} ${fault.detail}` : said.detail), { type: said.type });
}

async function register(account) {
  try {
    await send("/register", account);
  } catch (error) {
    if (error.type !== "/problems/email-taken") throw error; // else it is enough to log in
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (busy) return; // of a double click, one
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

leave.addEventListener("click", async () => {
  const { refresh_token } = login;
  forgetToken("Not logged in.");
  await send("/logout", { refresh_token }).catch((error) => (failed.textContent = error.message));
});

// Open the operation that the address names, and go there: Swagger UI does so only once.
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
  if (event.target.hash && event.target.hash === location.hash) follow(); // which is no change
});

function colour() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

dark.addEventListener("change", colour);
colour();
