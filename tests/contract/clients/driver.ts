// A tab that a test drives: it does with docs/clients/client.ts what lines of JSON on its input say, and prints how each ended.
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { memory, Petstore, Refused, type Store, type Tokens } from "./client.js";

const [, , url, file] = process.argv as [string, string, string, string];

/** Several processes find the same tokens here, but have no lock together. */
const store: Store = {
  load: () => JSON.parse(readFileSync(file, "utf-8")) as Tokens | null,
  save: (tokens) => {
    writeFileSync(`${file}.${process.pid}`, JSON.stringify(tokens));
    renameSync(`${file}.${process.pid}`, file);
  },
  alone: memory().alone,
};
const shop = new Petstore(url, store, 20);

async function poll(path: string, seconds: number, count: number): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const one of shop.poll<unknown>(path, seconds)) if (found.push(one) === count) break;
  return found;
}

const work: Record<string, (...args: any[]) => Promise<unknown>> = {
  login: (email: string, password: string) => shop.login(email, password),
  get: (path: string) => shop.get(path),
  write: (method: "POST", path: string, body: object, key?: string) => shop.write(method, path, body, key ?? undefined),
  edit: (productId: number, members: object) => shop.edit(productId, () => members),
  poll,
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const [number, name, args] = JSON.parse(line) as [number, string, unknown[]];
  const ended = (found: object) => console.log(JSON.stringify({ number, ...found }));
  work[name]!(...args).then(
    (value) => ended({ value: value ?? null }),
    (error: Error) => ended({ error: error.constructor.name, type: error instanceof Refused ? error.problem.type : String(error) }),
  );
});
