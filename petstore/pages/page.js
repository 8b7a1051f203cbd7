"use strict";
// On every page: marks that scripts run, and shows the origin of this page in code instead of that of scripts/serve.
const { origin } = document.currentScript.dataset;
document.documentElement.classList.add("scripts");
addEventListener("DOMContentLoaded", () => {
  for (const code of document.querySelectorAll("pre.code, .tabs pre")) {
    code.textContent = code.textContent.replaceAll(origin, location.origin);
  }
});
