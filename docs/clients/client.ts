// A client of the Petstore API that gets through, and does each write once: for browsers, and Node.js 18 or newer.
// Its types are generated: npx -p typescript@5 -p openapi-typescript@7 openapi-typescript http://127.0.0.1:8080/openapi.json -o petstore.d.ts
import type { components } from "./petstore";

type Schemas = components["schemas"];
export type Tokens = Schemas["Tokens"];
export type Product = Schemas["Product"];
/** Every kind of error, told apart by `type`: a misspelt one does not compile, and each has its own members. */
export type Problem = Extract<Schemas[Exclude<keyof Schemas, "Problem">], { type: `/problems/${string}`; request_id: string }>;
type Body = object | undefined;
type Answer = { status: number; etag: string | null; document: unknown };

const TIMEOUT_MS = 5_000; // of one request. A lost answer of POST /refresh has to be asked for again within 10 s.
const NEWER_MS = 10_000; // so long another tab may take to save the tokens that it has just got

/** The service refused. `retryAfter`: how many seconds to wait, if it says so. */
export class Refused extends Error {
  constructor(readonly problem: Problem, readonly retryAfter: number) {
    super(`${problem.status} ${problem.type}: ${problem.detail} (request ${problem.request_id})`);
  }
}
/** A write without a key may have been done, or not. Read what it was to change, then decide. */
export class OutcomeUnknown extends Error {}
/** The login has ended. Ask for the password, and call `login`. */
export class LoggedOut extends Error {}

/** Where all tabs find the tokens. `alone` runs one work at a time. */
export interface Store {
  load(): Tokens | null;
  save(tokens: Tokens | null): void;
  alone<T>(work: () => Promise<T>): Promise<T>;
}

/** The tokens of all tabs of a page: localStorage and Web Locks. (Whatever script runs in the page can read them, too.) */
export const tabs: Store = {
  load: () => JSON.parse(localStorage.getItem("petstore") ?? "null") as Tokens | null,
  save: (tokens) => localStorage.setItem("petstore", JSON.stringify(tokens)),
  alone: async (work) => await navigator.locks.request("petstore", work),
};

/** The tokens of one process. */
export function memory(): Store {
  let tokens: Tokens | null = null;
  let last: Promise<unknown> = Promise.resolve();
  return {
    load: () => tokens,
    save: (next) => void (tokens = next),
    alone: (work) => {
      const mine = last.then(work);
      last = mine.catch(() => undefined);
      return mine;
    },
  };
}

/** `patience`: seconds after which a request is given up. */
export class Petstore {
  constructor(readonly url: string, readonly store: Store, readonly patience = 60) {}

  async login(email: string, password: string): Promise<void> {
    const answer = await this.untilAnswered("POST", "/login", { email, password }, {}, true);
    this.store.save(answer.document as Tokens);
  }

  async get<T>(path: string): Promise<T> {
    return (await this.loggedIn("GET", path, undefined, {}, true)).document as T;
  }

  /** Do it once. Save the key before you call: with it, you can go on after a crash. Without one: see OutcomeUnknown. */
  async write<T>(method: "POST" | "PATCH" | "DELETE", path: string, body: Body, key?: string): Promise<T> {
    const headers: Record<string, string> = key === undefined ? {} : { "Idempotency-Key": key };
    return (await this.loggedIn(method, path, body, headers, key !== undefined)).document as T;
  }

  /** 409: send what `change` makes of the product. If somebody has edited it meanwhile, read it and change it again. */
  async edit(productId: number, change: (product: Product) => Schemas["ProductChanges"], tries = 5): Promise<Product> {
    for (;;) {
      const product = await this.get<Product>(`/products?id=${productId}`);
      try {
        const body = { ...change(product), version: product.version };
        return await this.write("PATCH", `/modify_product?id=${productId}`, body, `edit ${productId} ${Date.now()} ${Math.random()}`);
      } catch (error) {
        tries -= 1;
        if (!(error instanceof Refused) || error.problem.type !== "/problems/edit-conflict" || tries === 0) throw error;
      }
    }
  }

  /** What there is, and again each time that it has changed. What has not is a 304, which costs the service little. */
  async *poll<T>(path: string, seconds = 30): AsyncGenerator<T, never> {
    let etag: string | null = null;
    for (;;) {
      const answer: Answer = await this.loggedIn("GET", path, undefined, etag === null ? {} : { "If-None-Match": etag }, true);
      if (answer.status !== 304) {
        etag = answer.etag;
        yield answer.document as T;
      }
      await pause(seconds * (0.9 + 0.2 * Math.random())); // so that many clients do not ask at the same moment
    }
  }

  /** 401: refresh the tokens and send it again, but only once. */
  private async loggedIn(method: string, path: string, body: Body, headers: Record<string, string>, again: boolean): Promise<Answer> {
    const used = this.store.load();
    try {
      return await this.untilAnswered(method, path, body, { ...headers, ...bearer(used) }, again);
    } catch (error) {
      if (!(error instanceof Refused) || used === null) throw error;
      if (error.problem.type === "/problems/login-ended") throw new LoggedOut("the login has ended", { cause: error });
      if (error.problem.type !== "/problems/unauthorized") throw error;
    }
    await this.store.alone(() => this.refresh(used));
    return await this.untilAnswered(method, path, body, { ...headers, ...bearer(this.store.load()) }, again);
  }

  /** One refresh for all tabs: the first one does it, the others find its tokens in the store. */
  private async refresh(used: Tokens): Promise<void> {
    const isNewer = () => this.store.load()?.refresh_token !== used.refresh_token;
    if (isNewer()) return;
    try {
      const answer = await this.untilAnswered("POST", "/refresh", { refresh_token: used.refresh_token }, {}, true);
      this.store.save(answer.document as Tokens);
    } catch (error) {
      if (!(error instanceof Refused) || error.problem.status !== 401) throw error;
      if (error.problem.type === "/problems/refresh-token-just-used") {
        for (const end = Date.now() + NEWER_MS; !isNewer() && Date.now() < end; ) await pause(0.1); // until the other tab has saved
        if (isNewer()) return;
      }
      this.store.save(null);
      throw new LoggedOut("the login has ended", { cause: error });
    }
  }

  /** 429, 503 and 409 key-in-use: wait as told, and longer each time. `again`: it may be sent again after it was perhaps done. */
  private async untilAnswered(method: string, path: string, body: Body, headers: Record<string, string>, again: boolean): Promise<Answer> {
    const end = Date.now() + this.patience * 1000;
    for (let attempt = 0; ; attempt += 1) {
      let wait = 0;
      let failure: unknown;
      try {
        return await this.send(method, path, body, headers);
      } catch (error) {
        failure = error;
        if (error instanceof Refused) {
          const { type, status } = error.problem;
          if (type === "/problems/outcome-unknown" && !again) throw new OutcomeUnknown("no answer", { cause: error });
          if (status !== 429 && status !== 503 && type !== "/problems/key-in-use") throw error;
          wait = error.retryAfter;
        } else if (!again) throw new OutcomeUnknown("no answer", { cause: error });
      }
      wait = Math.max(wait, Math.min(0.1 * 2 ** attempt, 10)) * (1 + 0.2 * Math.random());
      if (Date.now() + wait * 1000 > end) throw failure;
      await pause(wait);
    }
  }

  private async send(method: string, path: string, body: Body, headers: Record<string, string>): Promise<Answer> {
    const answer = await fetch(this.url + path, {
      method,
      headers: body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const text = await answer.text();
    if (answer.ok || answer.status === 304) {
      return { status: answer.status, etag: answer.headers.get("ETag"), document: text === "" ? null : JSON.parse(text) };
    }
    if (answer.headers.get("Content-Type") !== "application/problem+json") throw new Error(`${answer.status}, and not from the service`);
    throw new Refused(JSON.parse(text) as Problem, Number(answer.headers.get("Retry-After") ?? 0));
  }
}

function bearer(tokens: Tokens | null): Record<string, string> {
  return tokens === null ? {} : { Authorization: `Bearer ${tokens.access_token}` };
}

function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
