"""A daemon and a receiver for the tests in this folder."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
# How long a test waits for something that must happen. Only a failing test waits so long.
PATIENCE = 60


class Daemon:
    """scanhook as a process of its own, with everything in memory."""

    def __init__(self, **settings):
        program = os.environ.get("SCANHOOK_PROGRAM", ROOT / "target/debug/scanhook")
        environment = {
            **os.environ,
            "SCANHOOK__VENDORS__PROBELY__LISTEN": "127.0.0.1:0",
            "SCANHOOK__VENDORS__HOSTEDSCAN__LISTEN": "127.0.0.1:0",
            "SCANHOOK__VENDORS__HALO__LISTEN": "127.0.0.1:0",
            "SCANHOOK__CHANCE__SEED": "7",
            "SCANHOOK__LOG__LEVEL": "warn",
            **{f"SCANHOOK__{name}": value for name, value in settings.items()},
        }
        command = [str(program), "--json", "serve", "--ephemeral", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        started = json.loads(self.process.stdout.readline())
        self.url = started["url"]
        self.vendors = started["vendors"]

    def subscribe(self, url, vendor, **more):
        """Registers a receiver: the subscriber."""
        body = {"url": url, "vendor": vendor, **more}
        answer = requests.post(f"{self.url}/api/v1/subscribers", json=body, timeout=PATIENCE)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=PATIENCE)


class Receiver:
    """A webhook consumer that keeps what it gets."""

    def __init__(self):
        receiver = self
        self.got = []
        self.arrived = threading.Condition()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with receiver.arrived:
                    receiver.got.append(json.loads(body))
                    receiver.arrived.notify_all()
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, is_meant):
        """Waits for a webhook, and gives it."""
        with self.arrived:
            found = lambda: next((one for one in self.got if is_meant(one)), None)
            assert self.arrived.wait_for(lambda: found() is not None, PATIENCE), self.got
            return found()

    def stop(self):
        self.server.shutdown()


@pytest.fixture(scope="session")
def start_daemon():
    """Starts daemons that end with the tests."""
    started = []

    def start(**settings):
        started.append(Daemon(**settings))
        return started[-1]

    yield start
    for daemon in started:
        daemon.stop()


@pytest.fixture(scope="session")
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()
