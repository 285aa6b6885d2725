// What a consumer's tests can look like. They run at the same time, each in an account of its own.
//
//     SCANHOOK_BIN=/path/to/scanhook node --test

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Consumer } from "./consumer.mjs";
import { Daemon } from "./scanhook.mjs";

const SECRET = "s3cret";

describe("the consumer", { concurrency: true }, () => {
  let daemon;
  before(async () => {
    daemon = await Daemon.start();
  });
  after(() => daemon?.stop());

  /** A test with an account and a consumer of its own. */
  function test(name, options, run = options) {
    it(name, async () => {
      const consumer = await new Consumer(SECRET).listen();
      try {
        await run(await daemon.account(options), consumer);
      } finally {
        consumer.close();
      }
    });
  }

  // The account's clock stands in the past, and the consumer refuses old signatures: sign with real time.
  const subscribe = (scanhook, consumer, fields) =>
    scanhook.subscribe(consumer.url, { secret: SECRET, signature_time: "real", ...fields });

  test("accepts a signed webhook", async (scanhook, consumer) => {
    await subscribe(scanhook, consumer);
    await scanhook.trigger("risk.opened", { set: { "risk_definition.title": "Open TCP Port: 23" } });
    assert.deepEqual(consumer.answers, [], "nothing fires by itself");

    await scanhook.settle();

    assert.deepEqual([...consumer.openRisks.values()], ["Open TCP Port: 23"]);
    const expected = { count: 1, status: "succeeded", attempts: 1, answer: 200 };
    await scanhook.expect({ event_type: "risk.opened" }, expected);
  });

  test("gets its webhook at the next retry when it was down for hours", async (scanhook, consumer) => {
    await subscribe(scanhook, consumer);
    consumer.isDown = true;
    await scanhook.trigger("risk.opened");

    // HostedScan tries again after 1, 2, 4, 8, … minutes.
    const missed = await scanhook.advance("3h");
    assert.deepEqual(
      missed.map((attempt) => attempt.at.slice(11, 16)),
      ["00:00", "00:01", "00:03", "00:07", "00:15", "00:31", "01:03", "02:07"],
    );
    assert.equal((await scanhook.settle()).next_delivery.due_at, "2026-01-01T04:15:00.000000Z");
    assert.deepEqual(consumer.events, []);

    consumer.isDown = false;
    const [arrived, ...more] = await scanhook.runUntilIdle();

    assert.deepEqual([arrived.at, arrived.status], ["2026-01-01T04:15:00.000000Z", "succeeded"]);
    assert.deepEqual(more, []);
    assert.equal(await scanhook.now(), arrived.at);
    assert.equal(consumer.events.length, 1);
  });

  test("refuses a wrong signature", async (scanhook, consumer) => {
    await subscribe(scanhook, consumer, { secret: "another", retry_schedule: ["1m"] });
    await scanhook.trigger("risk.opened");
    await scanhook.runUntilIdle();

    assert.deepEqual(consumer.answers, [401, 401]);
    assert.deepEqual(consumer.events, []);
    await scanhook.expect({ event_type: "risk.opened" }, { status: "failed", answer: 401 });
  });

  test("refuses a signature from long ago", async (scanhook, consumer) => {
    // Signed with the time of the account, which is long past.
    await subscribe(scanhook, consumer, { signature_time: "account" });
    await scanhook.trigger("risk.opened");
    await scanhook.settle();

    assert.deepEqual(consumer.answers, [401]);
  });

  test("takes a redelivery once", async (scanhook, consumer) => {
    await subscribe(scanhook, consumer);
    await scanhook.trigger("risk.opened");
    const [first] = await scanhook.runUntilIdle();

    await scanhook.redeliver(first.delivery_id);
    const [second] = await scanhook.runUntilIdle();

    assert.deepEqual([first.number, second.number], [1, 2]);
    assert.deepEqual(consumer.answers, [200, 200]);
    assert.equal(consumer.events.length, 1);
  });

  test("gets a whole story", async (scanhook, consumer) => {
    await subscribe(scanhook, consumer);
    // A scan finds five weaknesses; two are fixed; a day later the next scan does not find them.
    await scanhook.runScenario("rescan-closes-risks");
    await scanhook.runUntilIdle();

    const count = (type) => consumer.events.filter((event) => event.type === type).length;
    assert.deepEqual(["scan.succeeded", "risk.opened", "risk.closed"].map(count), [2, 5, 2]);
    assert.equal(consumer.openRisks.size, 3);
    await scanhook.expect({ event_type: "risk.closed" }, { count: 2, status: "succeeded" });
    await scanhook.expect({}, { count: 0, status: "failed" });
  });

  test("is told of what came near when an expectation does not hold", async (scanhook, consumer) => {
    await subscribe(scanhook, consumer);
    consumer.isDown = true;
    await scanhook.trigger("risk.opened");
    await scanhook.settle();

    await assert.rejects(scanhook.expect({ event_type: "risk.opened" }, { status: "succeeded" }), {
      name: "AssertionError",
      message: /503/,
    });
  });

  test("sees nothing of other accounts", async (scanhook, consumer) => {
    const other = await daemon.account({ now: "2030-06-01T12:00:00Z" });
    await subscribe(scanhook, consumer);
    await other.trigger("risk.opened");
    await other.runUntilIdle();

    assert.deepEqual(await scanhook.runUntilIdle(), []);
    assert.deepEqual(consumer.answers, []);
    assert.equal(await other.now(), "2030-06-01T12:00:00.000000Z");
  });

  test("gets webhooks by themselves on the machine's clock", { now: null }, async (scanhook, consumer) => {
    await subscribe(scanhook, consumer);
    const content = { id: "risk-1", risk_definition: { title: "mine" } };
    await scanhook.publish("risk.opened", content, { validation: "off" });
    // Returns as soon as it has arrived; nothing sleeps.
    await scanhook.expect({ event_type: "risk.opened" }, { within: "10s", status: "succeeded" });
    assert.equal((await scanhook.settle()).scheduled_deliveries, 0);

    assert.deepEqual([...consumer.openRisks], [["risk-1", "mine"]]);
  });
});
