"use strict";
// Shows the health of the service, now and every five seconds.
const health = document.getElementById("health");

function show(state, text) {
  if (health.textContent === text) return; // no change: screen readers must not announce it again
  health.className = state;
  health.textContent = text;
}

async function ask() {
  try {
    const answer = await fetch("/readyz", { cache: "no-store" });
    const said = await answer.json();
    const late = said.housekeeping === "late" ? ", housekeeping late" : "";
    const drift = said.drift?.length ? ", schema changed by hand" : "";
    if (answer.ok) show(said.status, `${said.status} (database ${said.database}, cache ${said.cache}${late}${drift})`);
    else show("down", said.detail);
  } catch {
    show("down", "does not answer");
  }
}

ask();
setInterval(ask, 5000);
