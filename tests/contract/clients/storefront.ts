// A small storefront over the generated types: it lists, buys, and tells the buyer what went wrong. Two programs of the test misspell it.
import { memory, Petstore, Refused, type Problem } from "./client.js";
import type { components, paths } from "./petstore";

type Invoice = components["schemas"]["Invoice"];
type Page = components["schemas"]["ProductPage"];
type Refusals = paths["/purchase_product"]["post"]["responses"][409]["content"]["application/problem+json"];

/** What may be answered to a purchase, and nothing else: a type of another request does not compile here. */
const advice: Record<Refusals["type"], string> = {
  "/problems/not-enough-stock": "take fewer",
  "/problems/price-changed": "look at the new price",
  "/problems/key-in-use": "wait",
};

function explain(problem: Problem): string {
  switch (problem.type) {
    case "/problems/not-enough-stock":
      return problem.errors.map((fault) => `only ${fault.available} of product ${fault.product_id}: ${advice[problem.type]}`).join();
    case "/problems/edit-conflict":
      return `somebody made version ${problem.current_version}`;
    case "/problems/transition-not-allowed":
      return `${problem.current} may become ${problem.allowed.join(" or ")}`;
    default:
      return problem.detail;
  }
}

const [, , url, email, password] = process.argv as [string, string, string, string, string];
const shop = new Petstore(url, memory());
await shop.login(email, password);
const { items } = await shop.get<Page>("/products?limit=1");
const product = items[0]!;
const buy = (quantity: number, key: string) =>
  shop.write<Invoice>("POST", "/purchase_product", { products: [{ product_id: product.id, quantity }] }, key);
const invoice = await buy(1, "the storefront's order");
console.log(`${invoice.status} ${invoice.total} ${invoice.currency}`);
try {
  await buy(product.stock + 1, "too many");
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  console.log(explain(error.problem));
}
