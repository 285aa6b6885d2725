// scanhook for Node's test runner: one daemon for the tests, and for each test an account with a clock of
// its own.
//
// Copy this file beside your tests. It needs Node 18.8 or newer and nothing else, and the program scanhook:
// on the path, or where SCANHOOK_BIN says.
//
//     const daemon = await Daemon.start();
//     const scanhook = await daemon.account();
//     await scanhook.subscribe("http://127.0.0.1:9000/hook", { secret: "s3cret" });
//     await scanhook.trigger("risk.opened");
//     await scanhook.runUntilIdle();
//     await scanhook.expect({ event_type: "risk.opened" }, { status: "succeeded" });
//     await daemon.stop();
//
// Accounts do not see one another, so tests may run at the same time. Nothing fires in an account but when
// its test moves the clock, or settles.

import { AssertionError } from "node:assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** Where each account's clock stands at first. */
export const START = "2026-01-01T00:00:00Z";
/** How long the daemon may take to start, and to stop, in milliseconds. */
const PATIENCE = 30_000;

/** What scanhook answers where it does not do what it was asked to; `body` is the problem (RFC 9457). */
export class Problem extends Error {
  constructor(call, body) {
    super(`${call}: ${body.title}: ${body.detail}`);
    this.name = "Problem";
    this.body = body;
  }
}

/** A scanhook of the tests' own: on a free port, with everything in memory. */
export class Daemon {
  static async start() {
    const daemon = new Daemon();
    await daemon.#start();
    return daemon;
  }

  #accounts = 0;

  async #start() {
    this.folder = mkdtempSync(join(tmpdir(), "scanhook-"));
    const ready = join(this.folder, "ready.json");
    const log = join(this.folder, "scanhook.log");
    const program = process.env.SCANHOOK_BIN || "scanhook";
    const output = openSync(log, "w");
    this.process = spawn(program, ["serve", "--ephemeral", "--listen", "127.0.0.1:0", "--ready-file", ready], {
      // Without jitter the times of retries are exact.
      env: { ...process.env, SCANHOOK__DISPATCH__JITTER: "0" },
      stdio: ["ignore", output, output],
    });
    closeSync(output);
    this.ended = once(this.process, "exit").catch((error) => {
      this.failure = error;
    });
    // Where a test forgets to stop it, and where the runner gives up.
    this.kill = () => this.process.kill("SIGKILL");
    process.once("exit", this.kill);
    const giveUpAt = Date.now() + PATIENCE;
    // The file appears whole, once everything is ready.
    while (!existsSync(ready)) {
      const hasEnded = this.process.exitCode !== null || this.process.signalCode !== null;
      if (this.failure || hasEnded || Date.now() > giveUpAt) {
        const why = this.failure
          ? `${this.failure.message}: put scanhook on the path, or its place in SCANHOOK_BIN`
          : readFileSync(log, "utf8");
        await this.stop();
        throw new Error(`scanhook did not start: ${why}`);
      }
      await sleep(10);
    }
    const about = JSON.parse(readFileSync(ready, "utf8"));
    this.url = about.url;
    this.apiKey = about.api_key;
  }

  /** Makes an account whose clock stands at `now`; at null it goes by the machine's clock. */
  async account({ now = START } = {}) {
    this.#accounts += 1;
    const clock = now === null ? {} : { clock: { mode: "manual", now } };
    const made = await new Account(this.url, this.apiKey).call("POST", "/api/v1/accounts", {
      name: `test ${this.#accounts}`,
      ...clock,
    });
    return new Account(this.url, made.api_key);
  }

  async stop() {
    const tooLong = setTimeout(this.kill, PATIENCE);
    this.process.kill();
    await this.ended;
    clearTimeout(tooLong);
    process.off("exit", this.kill);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** An account: what it publishes, only its own subscribers get, and its clock is its own. */
export class Account {
  constructor(url, apiKey) {
    this.url = url;
    this.apiKey = apiKey;
  }

  /** Calls scanhook's API, which is described at /api/docs: what it answers. */
  async call(method, path, body) {
    const headers = { "content-type": "application/json" };
    if (this.apiKey) {
      headers.authorization = `Bearer ${this.apiKey}`;
    }
    const answer = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    const value = text ? JSON.parse(text) : null;
    if (!answer.ok) {
      throw new Problem(`${method} ${path}`, value);
    }
    return value;
  }

  /** Registers a webhook; `fields` are the API's, such as vendor, secret, event_types, retry_schedule. */
  subscribe(url, fields = {}) {
    return this.call("POST", "/api/v1/subscribers", { url, vendor: "hostedscan", ...fields });
  }

  /** Publishes an event of your own making. */
  publish(eventType, content, fields = {}) {
    const event = { vendor: "hostedscan", event_type: eventType, content, ...fields };
    return this.call("POST", "/api/v1/events", event);
  }

  /** Publishes the example of an event type; `{ set: { target: "a.test" } }` changes it. */
  trigger(eventType, fields = {}) {
    return this.call("POST", "/api/v1/trigger", { vendor: "hostedscan", event_type: eventType, ...fields });
  }

  /** Starts a story. It is told while the clock moves, or by itself on the machine's clock. */
  runScenario(name, fields = {}) {
    return this.call("POST", "/api/v1/scenarios/runs", { name, ...fields });
  }

  /** Makes a delivery due again. */
  redeliver(deliveryId) {
    return this.call("POST", `/api/v1/deliveries/${deliveryId}/redeliver`);
  }

  /** What time it is in the account. */
  async now() {
    return (await this.call("GET", "/api/v1/clock")).now;
  }

  /** Moves the clock by a duration such as "5h30m", stopping at what is due: what fired, in order. */
  advance(by) {
    return this.#moved("advance", { by });
  }

  /** Moves the clock until nothing is ahead any more: what fired, in order. */
  runUntilIdle(max = "7d") {
    return this.#moved("run-until-idle", { max });
  }

  async #moved(how, howFar) {
    const moved = await this.call("POST", `/api/v1/clock/${how}`, howFar);
    // After 10,000 things, or a minute, the call ends on the way.
    if (["time_limit", "fired_limit"].includes(moved.stopped)) {
      throw new Error(`more is due at ${moved.now}: move on from there`);
    }
    return moved.fired;
  }

  /** Sends what is due, waits until nothing is in flight: what is due later. Moves no clock. */
  settle({ within = "5s", ...fields } = {}) {
    return this.call("POST", "/api/v1/settle", { within, ...fields });
  }

  /**
   * Waits until as many deliveries as expected match: they. Fails with the near misses.
   *
   *     await scanhook.expect({ event_type: "risk.*" }, { count: 3, status: "succeeded", attempts: 1 });
   */
  async expect(match, { within = "0s", ...expected } = {}) {
    try {
      const held = await this.call("POST", "/api/v1/assert", { match, expect: expected, within });
      return held.matches;
    } catch (problem) {
      if (problem.body?.type !== "urn:scanhook:problem:assertion-failed") {
        throw problem;
      }
      throw new AssertionError({ message: problem.body.detail });
    }
  }
}
