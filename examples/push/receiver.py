#!/usr/bin/env python3
"""An endpoint for a subscription, with only the standard library.

    SECRET=whsec_… ./receiver.py [PORT]

It refuses requests that are not signed with the secret, according to Standard Webhooks 1.0. If the work fails, it responds
with 500, and the gateway delivers the message again later.
"""

import base64
import hashlib
import hmac
import os
import sys
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ.get("SECRET", "").removeprefix("whsec_"))
if len(KEY) < 24:
    sys.exit("SECRET is not set to a secret like whsec_…")
PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8090

# How old a signature may be, or how far ahead of this clock, in seconds.
TOLERANCE = 300


def work(message_id, body, headers):
    """Your work. If it returns, the message is done. If it raises, the message comes again. An id may come twice."""
    print(message_id, headers.get("content-type", ""), body.decode(errors="replace"), flush=True)


def is_signed(headers, body):
    """Whether the sender knows the secret, and signed exactly this body recently."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not timestamp.isdigit() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    mac = hmac.new(KEY, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    expected = b"v1," + base64.b64encode(mac.digest())
    given = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(expected, one) for one in given)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not is_signed(self.headers, body):
            return self.answer(401)
        try:
            work(self.headers["webhook-id"], body, self.headers)
        except Exception:
            traceback.print_exc()
            return self.answer(500)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", PORT), Receiver)
print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
