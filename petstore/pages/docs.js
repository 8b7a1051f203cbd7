"use strict";
// Swagger UI on this service's own document, and a login whose token every request that is tried then carries.
const form = document.getElementById("login");
const who = document.getElementById("who");

const reference = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  responseInterceptor: (answer) => {
    if (answer.ok && /\/(login|refresh)$/.test(answer.url)) useToken(answer.obj ?? JSON.parse(answer.text));
    return answer;
  },
});

function useToken(tokens) {
  reference.preauthorizeApiKey("access_token", tokens.access_token);
  const until = new Date(Date.now() + tokens.expires_in * 1000).toLocaleTimeString();
  who.textContent = `Logged in until ${until}: every request that you try carries the token.`;
}

async function send(path) {
  const body = JSON.stringify({ email: form.elements.email.value, password: form.elements.password.value });
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.errors ? `${said.errors[0].pointer.slice(1)} ${said.errors[0].detail}` : said.detail);
  return said;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    if (event.submitter?.name === "register") await send("/register");
    useToken(await send("/login"));
    form.elements.password.value = "";
  } catch (error) {
    who.textContent = error.message;
  }
});
