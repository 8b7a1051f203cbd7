"use strict";
// Shows the health of the service, now and every five seconds, and counts the products once.
const health = document.getElementById("health");
const PAGES = 10; // of 100 products each; a larger catalogue is not counted to its end

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
    if (said.schema) fill("schema", said.schema.version);
  } catch {
    show("down", "does not answer");
  }
}

function fill(id, text) {
  const place = document.getElementById(id);
  (place.querySelector("strong") ?? place).textContent = text;
  place.hidden = false;
}

async function count() {
  let [products, inStock, next] = [0, 0, ""];
  for (let page = 0; page < PAGES && next !== null; page++) {
    const answer = await fetch(`/products?limit=100${next && `&after=${encodeURIComponent(next)}`}`);
    if (!answer.ok) return; // the numbers stay away
    const { items, next: following } = await answer.json();
    products += items.length;
    inStock += items.filter((product) => product.stock > 0).length;
    next = following;
  }
  const more = next === null ? "" : " or more";
  fill("products", products.toLocaleString("en") + more);
  fill("in-stock", inStock.toLocaleString("en") + more);
  document.getElementById("numbers").hidden = false;
}

ask();
setInterval(ask, 5000);
count().catch(() => {});
