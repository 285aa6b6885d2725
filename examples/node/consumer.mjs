// A small consumer of HostedScan's webhooks, to be tested: it keeps which risks are open.

import { createHmac, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

/** What was signed longer ago than this may have been caught and sent again by somebody. */
const FRESH_FOR_MS = 300_000;

/** What the endpoint knows. `receive` decides; the rest is HTTP. */
export class Consumer {
  isDown = false;
  answers = [];
  events = [];
  openRisks = new Map();
  #seen = new Set();
  #secret;
  #server;

  constructor(secret) {
    this.#secret = secret;
  }

  /** Takes a request: the status to answer with. `body` is raw, as it was signed. */
  receive(headers, body) {
    if (this.isDown) {
      return 503;
    }
    if (!this.#isGenuine(headers, body)) {
      return 401;
    }
    const event = JSON.parse(body);
    // Webhooks are sent at least once: the event's id tells a repeat.
    if (!this.#seen.has(event.id)) {
      this.#seen.add(event.id);
      this.events.push(event);
      this.#take(event.type, event.data);
    }
    return 200;
  }

  /** HostedScan signs the timestamp, a full stop and the raw body; the timestamp is in milliseconds. */
  #isGenuine(headers, body) {
    const timestamp = headers["x-hostedscan-timestamp"] ?? "";
    const signature = Buffer.from(headers["x-hostedscan-signature"] ?? "", "hex");
    const expected = createHmac("sha256", this.#secret).update(`${timestamp}.`).update(body).digest();
    if (signature.length !== expected.length || !timingSafeEqual(signature, expected)) {
      return false;
    }
    return Math.abs(Date.now() - Number(timestamp)) <= FRESH_FOR_MS;
  }

  #take(eventType, data) {
    if (eventType === "risk.opened") {
      this.openRisks.set(data.id, data.risk_definition.title);
    } else if (eventType === "risk.closed") {
      this.openRisks.delete(data.id);
    }
  }

  /** Starts its HTTP server, on a free port. */
  async listen() {
    this.#server = createServer(async (request, response) => {
      const chunks = [];
      for await (const chunk of request) {
        chunks.push(chunk);
      }
      const status = this.receive(request.headers, Buffer.concat(chunks));
      this.answers.push(status);
      response.writeHead(status).end();
    });
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.url = `http://127.0.0.1:${this.#server.address().port}/hook`;
    return this;
  }

  close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
