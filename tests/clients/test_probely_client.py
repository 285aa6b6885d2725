"""Probely's official client, unmodified, against scanhook. The tests are one story, in order."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROBELY = str(Path(sys.executable).parent / "probely")


class Client:
    """The client's program against one daemon."""

    def __init__(self, daemon, home):
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "COLUMNS": "200",
            "PROBELY_API_BASE_URL": daemon.vendors["probely"],
            "PROBELY_API_KEY": "any-key",
        }

    def run(self, *arguments, fails=False):
        """Runs the program: its standard output."""
        command = [PROBELY, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert (done.returncode != 0) == fails, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + (done.stderr if fails else "")

    def objects(self, *arguments):
        """Runs the program: the objects that it shows."""
        shown = json.loads(self.run(*arguments, "-o", "JSON"))
        return shown if isinstance(shown, list) else [shown]


@pytest.fixture(scope="module")
def client(start_daemon, receiver, tmp_path_factory):
    # A scan takes a second or two.
    daemon = start_daemon(SCANNER__TIME_SCALE="1200")
    daemon.subscribe(receiver.url, "probely")
    return Client(daemon, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def slow(start_daemon, receiver, tmp_path_factory):
    # A scan takes a minute and more, so that it can be paused and cancelled.
    daemon = start_daemon(SCANNER__TIME_SCALE="10")
    daemon.subscribe(receiver.url, "probely")
    return Client(daemon, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def environment(client):
    return client.environment


@pytest.fixture(scope="module")
def probely(client):
    return client.run


@pytest.fixture(scope="module")
def objects(client):
    return client.objects


@pytest.fixture(scope="module")
def target(objects):
    return objects("targets", "add", "https://shop.example.test", "--target-name", "Shop")[0]


@pytest.fixture(scope="module")
def followed(environment, objects):
    """A scan that the client follows to its end; it looks every thirty seconds."""
    target = objects("targets", "add", "https://followed.example.test")[0]
    command = [PROBELY, "targets", "follow-scan", target["id"]]
    following = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    yield target, following
    following.kill()


def is_event(event_type, **content):
    """Whether a webhook tells of this."""

    def is_meant(event):
        shown = event["content"]
        return event["event_type"] == event_type and all(shown[name] == value for name, value in content.items())

    return is_meant


def until(objects, wanted, *arguments):
    """Asks again until an object is in a state."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        shown = objects(*arguments)[0]
        if shown["status"] == wanted:
            return shown
    raise AssertionError(f"{arguments} is still {shown['status']}, not {wanted}")


def test_a_target_is_added_and_told_of(followed, target, objects, receiver):
    assert target["site"]["name"] == "Shop"
    assert target["last_scan"] is None
    event = receiver.wait_for(is_event("target_created", id=target["id"]))
    assert event["content"]["site"]["url"] == "https://shop.example.test"
    assert event["webhooks"][0]["status"] == "scheduled"
    again = objects("targets", "get", target["id"])[0]
    assert again == target


def test_targets_are_listed_by_filters(target, objects):
    ids = lambda *filters: [one["id"] for one in objects("targets", "get", *filters)]
    assert target["id"] in ids()
    assert ids("--f-search", "Shop") == [target["id"]]
    assert target["id"] in ids("--f-risk", "NA", "--f-type", "WEB", "--f-is-url-verified", "FALSE")
    assert target["id"] not in ids("--f-risk", "HIGH")
    assert target["id"] not in ids("--f-scan-profile", "full")


def test_a_target_that_is_not_there_is_named(probely):
    assert "2mQvT8hXcR4k" in probely("targets", "get", "2mQvT8hXcR4k", fails=True)


def test_a_target_is_updated(target, objects, probely, tmp_path):
    file = tmp_path / "target.yaml"
    file.write_text('site:\n  name: New shop\nlabels:\n  - name: prod\n  - name: eu\nscan_profile: normal\n')
    updated = objects("targets", "update", target["id"], "--yaml-file", str(file))[0]
    assert updated["site"]["name"] == "New shop"
    assert [label["name"] for label in updated["labels"]] == ["prod", "eu"]
    file.write_text("site:\n  name: 7\nreport_type: novel\n")
    refused = probely("targets", "update", target["id"], "--yaml-file", str(file), fails=True)
    assert "report_type" in refused


def test_labels_are_listed_and_filter(target, objects):
    labels = {label["name"]: label["id"] for label in objects("target-labels", "get")}
    assert set(labels) == {"prod", "eu"}
    found = objects("targets", "get", "--f-label", labels["prod"], labels["eu"], "--f-label-logical-operator", "AND")
    assert [one["id"] for one in found] == [target["id"]]


def test_labels_are_made_and_removed_by_the_library(environment):
    program = """
from probely.sdk.client import Probely
from probely.sdk.managers import TargetLabelManager
Probely.init(api_key="any-key")
labels = TargetLabelManager()
made = labels.create("temporary", "#112233")
assert labels.retrieve(made.id).color == "#112233"
assert labels.update(made.id, {"name": "renamed"}).name == "renamed"
labels.delete(made.id)
assert "renamed" not in [label.name for label in labels.list()]
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_scan_is_started_paused_resumed_and_cancelled(slow, receiver):
    objects = slow.objects
    target = objects("targets", "add", "https://slow.example.test")[0]
    scan = objects("targets", "start-scan", target["id"])[0]
    assert scan["status"] == "queued"
    assert scan["target"]["id"] == target["id"]
    receiver.wait_for(is_event("scan_started", id=scan["id"]))
    assert objects("scans", "pause", scan["id"])[0]["status"] in ("pausing", "paused")
    until(objects, "paused", "scans", "get", scan["id"])
    assert objects("scans", "resume", scan["id"])[0]["status"] in ("resuming", "started")
    until(objects, "started", "scans", "get", scan["id"])
    assert objects("scans", "cancel", scan["id"])[0]["status"] in ("canceling", "canceled")
    until(objects, "canceled", "scans", "get", scan["id"])
    event = receiver.wait_for(is_event("scan_canceled", id=scan["id"]))
    assert event["content"]["status"] == "canceled"


def test_several_scans_are_started_paused_resumed_and_cancelled_at_once(slow):
    objects = slow.objects
    targets = [objects("targets", "add", f"https://{name}.example.test")[0]["id"] for name in ("one", "other")]
    ids = [scan["id"] for scan in objects("targets", "start-scan", *targets)]
    for action, state in (("pause", "paused"), ("resume", None), ("cancel", "canceled")):
        assert {scan["id"] for scan in objects("scans", action, *ids)} == set(ids)
        for scan in ids:
            if state:
                until(objects, state, "scans", "get", scan)


def test_a_scan_finds_what_the_webhooks_tell(target, objects, receiver):
    scan = objects("targets", "start-scan", target["id"])[0]
    ended = receiver.wait_for(is_event("scan_completed", id=scan["id"]))
    shown = objects("scans", "get", scan["id"])[0]
    assert shown["status"] == "completed"
    counts = ["lows", "mediums", "highs", "criticals"]
    assert [shown[count] for count in counts] == [ended["content"][count] for count in counts]
    found = objects("findings", "get", "--f-scans", scan["id"])
    assert len(found) == sum(shown[count] for count in counts) > 0
    for finding in found:
        compound = f"{target['id']}-{finding['id']}"
        assert objects("findings", "get", compound)[0] == finding
    after = objects("targets", "get", target["id"])[0]
    assert after["last_scan"]["id"] == scan["id"]


def test_scans_are_listed_by_filters(target, objects):
    found = objects("scans", "get", "--f-target", target["id"], "--f-status", "COMPLETED")
    assert len(found) == 1
    assert found[0]["target"]["id"] == target["id"]
    started = found[0]["started"]
    ids = lambda *filters: [one["id"] for one in objects("scans", "get", "--f-target", target["id"], *filters)]
    assert found[0]["id"] in ids("--f-started-gte", started)
    assert found[0]["id"] not in ids("--f-started-gt", started)
    assert found[0]["id"] in ids("--f-completed-gt", started, "--f-search", "New shop")
    assert ids("--f-completed-lt", "2020-01-01") == []


def test_findings_are_listed_by_every_filter(target, objects):
    every = objects("findings", "get", "--f-target", target["id"])
    one = every[0]
    ids = lambda *filters: {found["id"] for found in objects("findings", "get", "--f-target", target["id"], *filters)}
    names = {10: "LOW", 20: "MEDIUM", 30: "HIGH", 40: "CRITICAL"}
    assert one["id"] in ids("--f-severity", names[one["severity"]])
    others = [name for severity, name in names.items() if severity != one["severity"]]
    assert one["id"] not in ids("--f-severity", *others)
    whole = {found["id"] for found in every}
    assert ids("--f-state", "NOT_FIXED") == whole
    assert ids("--f-state", "FIXED") == set()
    assert ids("--f-state", "RETESTING") == set()
    assert ids("--f-is-new", "TRUE") == {found["id"] for found in every if found["new"]}
    assert ids("--f-is-new", "FALSE") == {found["id"] for found in every if not found["new"]}
    assert one["id"] in ids("--f-search", one["definition"]["name"])
    label = objects("targets", "get", target["id"])[0]["labels"][0]["id"]
    assert ids("--f-target-label", label, "--f-target-label-logical-operator", "OR") == whole
    last = one["last_found"]
    assert one["id"] in ids("--f-last-found-gte", last)
    assert ids("--f-last-found-lte", "2020-01-01") == set()
    assert ids("--f-changed-gte", "2020-01-01", "--f-changed-lte", "2999-01-01") == whole
    assert ids("--f-changed-lte", "2020-01-01") == set()


def test_a_finding_is_reviewed_and_retested(target, objects, receiver):
    finding = objects("findings", "get", "--f-target", target["id"])[0]
    compound = f"{target['id']}-{finding['id']}"
    reviewed = objects("findings", "self-review", compound, "--review-status", "REJECTED", "--justification", "no")[0]
    assert (reviewed["review_status"], reviewed["review_reason"]) == ("rejected", "no")
    retested = objects("findings", "retest", compound)[0]
    assert retested["retesting"] is True
    running = objects("findings", "get", "--f-target", target["id"], "--f-state", "RETESTING")
    assert [found["id"] for found in running] == [finding["id"]]
    scan = objects("scans", "get", "--f-target", target["id"])[0]
    receiver.wait_for(is_event("scan_completed", id=scan["id"]))
    assert objects("findings", "get", compound)[0]["retesting"] is False


def test_scans_are_scheduled_changed_and_removed(target, objects, probely, tmp_path):
    made = objects(
        "targets", "schedule-scan", target["id"], "--date-time", "2099-01-31T09:00:00", "--recurrence", "MONTHLY",
        "--timezone", "Europe/Lisbon", "--scan-profile", "lightning",
    )[0]
    assert (made["recurrence"], made["timezone"], made["scan_profile"]) == ("m", "Europe/Lisbon", "lightning")
    assert [one["id"] for one in objects("scheduled-scans", "get")] == [made["id"]]
    assert objects("targets", "get", target["id"])[0]["next_scan"]["id"] == made["id"]
    file = tmp_path / "schedule.yaml"
    file.write_text("recurrence: w\n")
    assert objects("scheduled-scans", "update", made["id"], "--yaml-file", str(file))[0]["recurrence"] == "w"
    probely("scheduled-scans", "delete", made["id"])
    assert probely("scheduled-scans", "get", "-o", "IDS_ONLY").strip() == ""


def test_extra_hosts_and_sequences_come_and_go(target, objects, probely, tmp_path):
    host = objects("targets", "add-extra-host", target["id"], "--host", "api.shop.example.test", "--name", "API")[0]
    assert objects("targets", "get", target["id"])[0]["assets"][0]["id"] == host["id"]
    file = tmp_path / "change.yaml"
    file.write_text("name: Other\n")
    assert objects("target-extra-hosts", "update", host["id"], "--yaml-file", str(file))[0]["name"] == "Other"
    probely("target-extra-hosts", "delete", host["id"])
    steps = tmp_path / "steps.json"
    steps.write_text('[{"type": "goto", "url": "https://shop.example.test/login"}]')
    arguments = ["--name", "Log in", "--type", "LOGIN", "--sequence-steps-file", str(steps)]
    sequence = objects("targets", "add-sequence", target["id"], *arguments)[0]
    assert objects("target-sequences", "get", sequence["id"])[0]["name"] == "Log in"
    assert objects("target-sequences", "update", sequence["id"], "--yaml-file", str(file))[0]["name"] == "Other"
    probely("target-sequences", "delete", sequence["id"])
    assert probely("target-sequences", "get", "-o", "IDS_ONLY").strip() == ""


def test_an_api_target_takes_its_schema(objects, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"openapi": "3.0.0", "info": {"title": "a", "version": "1"}, "paths": {}}')
    target = objects(
        "targets", "add", "https://api.example.test", "--target-type", "API", "--api-schema-type", "OPENAPI",
        "--api-schema-file", str(schema),
    )[0]
    assert target["type"] == "api"
    assert target["site"]["api_scan_settings"]["api_schema_file"]


def test_profiles_are_listed(objects):
    assert {"lightning", "normal", "full", "safe"} <= {one["id"] for one in objects("scan-profiles", "get")}
    assert objects("scan-profiles", "get", "full")[0]["name"] == "Full"


def test_a_target_is_deleted_and_told_of(target, probely, receiver):
    probely("targets", "delete", target["id"])
    receiver.wait_for(is_event("target_deleted", id=target["id"]))
    assert target["id"] in probely("targets", "get", target["id"], fails=True)


def test_a_scan_is_followed_to_its_end(followed, receiver):
    target, following = followed
    output, _ = following.communicate(timeout=120)
    assert "Vulnerability summary" in output, output
    # It ends with 1 where the scan has found something, as the client documents.
    assert following.returncode in (0, 1), output
    event = receiver.wait_for(lambda event: event["event_type"] == "scan_completed" and event["content"]["target"]["id"] == target["id"])
    assert f"{event['content']['lows']} Lows" in output
