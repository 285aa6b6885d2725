"""scanhook for pytest: one daemon for the tests, and for each test an account with a clock of its own.

Copy this file into the folder of your tests. It needs pytest, Python 3.9 or newer, and the program
scanhook: on the path, or where SCANHOOK_BIN says.

    def test_my_consumer(scanhook):
        scanhook.subscribe("http://127.0.0.1:9000/hook", secret="s3cret")
        scanhook.trigger("risk.opened")
        scanhook.run_until_idle()
        scanhook.expect({"event_type": "risk.opened"}, status="succeeded")

Accounts do not see one another, so tests may run at the same time (pytest-xdist starts a daemon for
each of its workers). Nothing fires in an account but when its test moves the clock, or settles.
"""

import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest

# Where each account's clock stands at first.
START = "2026-01-01T00:00:00Z"
# How long the daemon may take to start, and to stop, in seconds.
PATIENCE = 30
# A proxy has no business between the tests and their own machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Problem(Exception):
    """What scanhook answers where it does not do what it was asked to; `body` is the problem (RFC 9457)."""

    def __init__(self, call, body):
        super().__init__(f"{call}: {body['title']}: {body['detail']}")
        self.body = body


class Daemon:
    """A scanhook of the tests' own: on a free port, with everything in memory."""

    def __init__(self, folder):
        program = os.environ.get("SCANHOOK_BIN") or shutil.which("scanhook")
        if not (program and shutil.which(program)):
            missing = f"there is no program {program}" if program else "found no scanhook"
            pytest.fail(f"{missing}: put scanhook on the path, or its place in SCANHOOK_BIN", pytrace=False)
        ready, self.log = folder / "ready.json", folder / "scanhook.log"
        command = [program, "serve", "--ephemeral", "--listen", "127.0.0.1:0", "--ready-file", str(ready)]
        # Without jitter the times of retries are exact.
        environment = {**os.environ, "SCANHOOK__DISPATCH__JITTER": "0"}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        give_up_at = time.monotonic() + PATIENCE
        # The file appears whole, once everything is ready.
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > give_up_at:
                self.stop()
                pytest.fail(f"scanhook did not start:\n{self.log.read_text(errors='replace')}", pytrace=False)
            time.sleep(0.01)
        about = json.loads(ready.read_text())
        self.url, self.api_key = about["url"], about["api_key"]
        self.numbers = itertools.count(1)

    def account(self, now=START):
        """Makes an account whose clock stands at `now`; at None it goes by the machine's clock."""
        new = {"name": f"test {next(self.numbers)}"}
        if now is not None:
            new["clock"] = {"mode": "manual", "now": now}
        made = Account(self.url, self.api_key).call("POST", "/api/v1/accounts", new)
        return Account(self.url, made["api_key"])

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Account:
    """An account: what it publishes, only its own subscribers get, and its clock is its own."""

    def __init__(self, url, api_key):
        self.url, self.api_key = url, api_key

    def call(self, method, path, body=None):
        """Calls scanhook's API, which is described at /api/docs: what it answers."""
        headers = {"content-type": "application/json"}
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with DIRECT.open(request, timeout=120) as answer:
                text = answer.read()
        except urllib.error.HTTPError as refused:
            with refused:
                raise Problem(f"{method} {path}", json.load(refused)) from None
        return json.loads(text) if text else None

    def subscribe(self, url, vendor="hostedscan", **fields):
        """Registers a webhook; `fields` are the API's, such as secret, event_types, retry_schedule."""
        return self.call("POST", "/api/v1/subscribers", {"url": url, "vendor": vendor, **fields})

    def publish(self, event_type, content, vendor="hostedscan", **fields):
        """Publishes an event of your own making."""
        event = {"vendor": vendor, "event_type": event_type, "content": content, **fields}
        return self.call("POST", "/api/v1/events", event)

    def trigger(self, event_type, vendor="hostedscan", **fields):
        """Publishes the example of an event type; `set={"target": "a.test"}` changes it."""
        return self.call("POST", "/api/v1/trigger", {"vendor": vendor, "event_type": event_type, **fields})

    def run_scenario(self, name, **fields):
        """Starts a story. It is told while the clock moves, or by itself on the machine's clock."""
        return self.call("POST", "/api/v1/scenarios/runs", {"name": name, **fields})

    def redeliver(self, delivery_id):
        """Makes a delivery due again."""
        return self.call("POST", f"/api/v1/deliveries/{delivery_id}/redeliver")

    def now(self):
        """What time it is in the account."""
        return self.call("GET", "/api/v1/clock")["now"]

    def advance(self, by):
        """Moves the clock by a duration such as "5h30m", stopping at what is due: what fired, in order."""
        return self._moved("advance", {"by": by})

    def run_until_idle(self, max="7d"):
        """Moves the clock until nothing is ahead any more: what fired, in order."""
        return self._moved("run-until-idle", {"max": max})

    def _moved(self, how, how_far):
        moved = self.call("POST", f"/api/v1/clock/{how}", how_far)
        # After 10,000 things, or a minute, the call ends on the way.
        assert moved["stopped"] not in ("time_limit", "fired_limit"), (
            f"more is due at {moved['now']}: move on from there"
        )
        return moved["fired"]

    def settle(self, within="5s", **fields):
        """Sends what is due, waits until nothing is in flight: what is due later. Moves no clock."""
        return self.call("POST", "/api/v1/settle", {"within": within, **fields})

    def expect(self, match, within="0s", **expected):
        """Waits until as many deliveries as expected match: they. Fails with the near misses.

        scanhook.expect({"event_type": "risk.*"}, count=3, status="succeeded", attempts=1, answer=200)
        """
        try:
            held = self.call("POST", "/api/v1/assert", {"match": match, "expect": expected, "within": within})
        except Problem as problem:
            if problem.body["type"] != "urn:scanhook:problem:assertion-failed":
                raise
            raise AssertionError(problem.body["detail"]) from None
        return held["matches"]


@pytest.fixture(scope="session")
def scanhook_daemon(tmp_path_factory):
    """The daemon; it starts with the first test that wants it and stops after the last."""
    daemon = Daemon(tmp_path_factory.mktemp("scanhook"))
    yield daemon
    daemon.stop()


@pytest.fixture
def scanhook(scanhook_daemon):
    """An account of the test's own."""
    return scanhook_daemon.account()
