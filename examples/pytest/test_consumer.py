"""What a consumer's tests can look like. `scanhook` comes from conftest.py."""

import threading
from collections import Counter

import pytest

from consumer import Consumer, serve

SECRET = "s3cret"


@pytest.fixture
def consumer():
    """The consumer under test, on a free port."""
    consumer = Consumer(SECRET)
    server = serve(consumer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    consumer.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield consumer
    server.shutdown()
    server.server_close()


def subscribe(scanhook, consumer, **fields):
    # The account's clock stands in the past, and the consumer refuses old signatures: sign with real time.
    return scanhook.subscribe(consumer.url, **{"secret": SECRET, "signature_time": "real", **fields})


def test_a_signed_webhook_is_accepted(scanhook, consumer):
    subscribe(scanhook, consumer)
    scanhook.trigger("risk.opened", set={"risk_definition.title": "Open TCP Port: 23"})
    assert consumer.answers == [], "nothing fires by itself"

    scanhook.settle()

    assert list(consumer.open_risks.values()) == ["Open TCP Port: 23"]
    scanhook.expect({"event_type": "risk.opened"}, count=1, status="succeeded", attempts=1, answer=200)


def test_a_consumer_that_was_down_for_hours_gets_its_webhook_at_the_next_retry(scanhook, consumer):
    subscribe(scanhook, consumer)
    consumer.is_down = True
    scanhook.trigger("risk.opened")

    # HostedScan tries again after 1, 2, 4, 8, … minutes.
    missed = scanhook.advance("3h")
    assert [attempt["at"][11:16] for attempt in missed] == [
        "00:00", "00:01", "00:03", "00:07", "00:15", "00:31", "01:03", "02:07",
    ]  # fmt: skip
    assert scanhook.settle()["next_delivery"]["due_at"] == "2026-01-01T04:15:00.000000Z"
    assert consumer.events == []

    consumer.is_down = False
    [arrived] = scanhook.run_until_idle()

    assert (arrived["at"], arrived["status"]) == ("2026-01-01T04:15:00.000000Z", "succeeded")
    assert scanhook.now() == arrived["at"]
    assert len(consumer.events) == 1


def test_a_wrong_signature_is_refused(scanhook, consumer):
    subscribe(scanhook, consumer, secret="another", retry_schedule=["1m"])
    scanhook.trigger("risk.opened")
    scanhook.run_until_idle()

    assert consumer.answers == [401, 401]
    assert consumer.events == []
    scanhook.expect({"event_type": "risk.opened"}, status="failed", answer=401)


def test_a_signature_from_long_ago_is_refused(scanhook, consumer):
    # Signed with the time of the account, which is long past.
    subscribe(scanhook, consumer, signature_time="account")
    scanhook.trigger("risk.opened")
    scanhook.settle()

    assert consumer.answers == [401]


def test_a_redelivery_is_taken_once(scanhook, consumer):
    subscribe(scanhook, consumer)
    scanhook.trigger("risk.opened")
    [first] = scanhook.run_until_idle()

    scanhook.redeliver(first["delivery_id"])
    [second] = scanhook.run_until_idle()

    assert (first["number"], second["number"]) == (1, 2)
    assert consumer.answers == [200, 200]
    assert len(consumer.events) == 1


def test_a_whole_story_arrives(scanhook, consumer):
    subscribe(scanhook, consumer)
    # A scan finds five weaknesses; two are fixed; a day later the next scan does not find them.
    scanhook.run_scenario("rescan-closes-risks")
    scanhook.run_until_idle()

    counts = Counter(event["type"] for event in consumer.events)
    assert (counts["scan.succeeded"], counts["risk.opened"], counts["risk.closed"]) == (2, 5, 2)
    assert len(consumer.open_risks) == 3
    scanhook.expect({"event_type": "risk.closed"}, count=2, status="succeeded")
    scanhook.expect({}, count=0, status="failed")


def test_an_expectation_that_does_not_hold_says_what_came_near(scanhook, consumer):
    subscribe(scanhook, consumer)
    consumer.is_down = True
    scanhook.trigger("risk.opened")
    scanhook.settle()

    with pytest.raises(AssertionError, match="503"):
        scanhook.expect({"event_type": "risk.opened"}, status="succeeded")


def test_tests_do_not_see_one_another(scanhook_daemon, consumer):
    mine, theirs = scanhook_daemon.account(), scanhook_daemon.account(now="2030-06-01T12:00:00Z")
    subscribe(mine, consumer)
    theirs.trigger("risk.opened")
    theirs.run_until_idle()

    assert mine.run_until_idle() == []
    assert consumer.answers == []
    assert theirs.now() == "2030-06-01T12:00:00.000000Z"


def test_a_webhook_goes_out_by_itself_on_the_machines_clock(scanhook_daemon, consumer):
    scanhook = scanhook_daemon.account(now=None)
    subscribe(scanhook, consumer)
    scanhook.publish("risk.opened", {"id": "risk-1", "risk_definition": {"title": "mine"}}, validation="off")
    # Returns as soon as it has arrived; nothing sleeps.
    scanhook.expect({"event_type": "risk.opened"}, within="10s", status="succeeded")
    assert scanhook.settle()["scheduled_deliveries"] == 0

    assert consumer.open_risks == {"risk-1": "mine"}
