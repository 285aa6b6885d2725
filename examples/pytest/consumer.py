"""A small consumer of HostedScan's webhooks, to be tested: it keeps which risks are open.

    python3 consumer.py 127.0.0.1:9000 s3cret
"""

import hashlib
import hmac
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What was signed longer ago than this may have been caught and sent again by somebody.
FRESH_FOR_SECONDS = 300


class Consumer:
    """What the endpoint knows. `receive` decides; the rest is HTTP."""

    def __init__(self, secret):
        self.secret = secret
        self.is_down = False
        self.answers = []
        self.events = []
        self.open_risks = {}
        self.seen = set()
        self.one_at_a_time = threading.Lock()

    def receive(self, headers, body):
        """Takes a request: the status to answer with."""
        with self.one_at_a_time:
            self.answers.append(self._decide(headers, body))
            return self.answers[-1]

    def _decide(self, headers, body):
        if self.is_down:
            return 503
        if not self._is_genuine(headers, body):
            return 401
        event = json.loads(body)
        # Webhooks are sent at least once: the event's id tells a repeat.
        if event["id"] not in self.seen:
            self.seen.add(event["id"])
            self.events.append(event)
            self._take(event["type"], event["data"])
        return 200

    def _is_genuine(self, headers, body):
        """HostedScan signs the timestamp, a full stop and the raw body; the timestamp is in milliseconds."""
        timestamp = headers.get("X-HOSTEDSCAN-TIMESTAMP", "")
        signature = headers.get("X-HOSTEDSCAN-SIGNATURE", "")
        signed = timestamp.encode() + b"." + body
        expected = hmac.new(self.secret.encode(), signed, hashlib.sha256).hexdigest()
        # Bytes, because text that is not ASCII cannot be compared so.
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            return False
        return abs(time.time() - int(timestamp) / 1000) <= FRESH_FOR_SECONDS

    def _take(self, event_type, data):
        if event_type == "risk.opened":
            self.open_risks[data["id"]] = data["risk_definition"]["title"]
        elif event_type == "risk.closed":
            self.open_risks.pop(data["id"], None)


def serve(consumer, address="127.0.0.1", port=0):
    """The consumer's HTTP server; port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(consumer.receive(self.headers, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    return ThreadingHTTPServer((address, port), Handler)


if __name__ == "__main__":
    address, _, port = sys.argv[1].rpartition(":")
    serve(Consumer(sys.argv[2]), address, int(port)).serve_forever()
