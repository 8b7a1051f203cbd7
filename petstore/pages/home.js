"use strict";
// How the service is, now and every five seconds.
const health = document.getElementById("health");

async function ask() {
  try {
    const answer = await fetch("/readyz", { cache: "no-store" });
    const said = await answer.json();
    health.className = answer.ok ? said.status : "down";
    health.textContent = answer.ok ? `${said.status} (database ${said.database}, cache ${said.cache})` : said.detail;
  } catch {
    health.className = "down";
    health.textContent = "does not answer";
  }
}

ask();
setInterval(ask, 5000);
