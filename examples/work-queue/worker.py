#!/usr/bin/env python3
"""A worker in Python, with nothing but the standard library.

    ./worker.py QUEUE

It takes one task at a time, a JSON text, and calls work(). SIGTERM and Ctrl-C end it after its present task.
"""

import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

GATEWAY = os.environ.get("GATEWAY", "http://127.0.0.1:8080")
LEASE = 30  # seconds


class Unworkable(Exception):
    """A task that will never succeed: it goes to the queue's dead-letter exchange."""


def work(task):
    """Your work. It returns: done. It raises: the task goes back, for another try."""
    time.sleep(task.get("seconds", 0))
    print("done", json.dumps(task), flush=True)


def call(method, path, body=None):
    """One request; tried again where the gateway says that this helps."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(GATEWAY + path, data, {"content-type": "application/json"}, method=method)
    for attempt in range(6):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code != 503 or attempt == 5:
                raise
            time.sleep(float(error.headers.get("retry-after", 1)))


def renew(lease, done):
    while not done.wait(LEASE / 3):
        call("POST", f"/leases/{lease}/extend")


def handle(message):
    lease = message["lease"]["id"]
    done = threading.Event()
    threading.Thread(target=renew, args=(lease, done), daemon=True).start()
    try:
        try:
            # A JSON body comes as the value itself, any other as text or base64.
            if not isinstance(message["payload"], dict):
                raise Unworkable("not a JSON object")
            work(message["payload"])
        finally:
            done.set()
        call("POST", f"/leases/{lease}/ack")
    except Unworkable as error:
        print("rejected:", error, file=sys.stderr)
        call("POST", f"/leases/{lease}/nack", {"requeue": False})
    except urllib.error.HTTPError as error:
        # 410: the lease ran out, so another worker has the task. It may be done twice: make your work repeatable.
        print("not settled:", error, file=sys.stderr)
    except Exception as error:
        print("failed, for another try:", error, file=sys.stderr)
        call("POST", f"/leases/{lease}/nack")


def main(queue):
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    path = f"/queues/{urllib.parse.quote(queue, safe='')}/messages?wait=5s&lease={LEASE}s"
    while not stopping.is_set():
        try:
            for message in call("GET", path)["messages"]:
                handle(message)
        except OSError as error:  # nobody answers, or not well
            print("no answer:", error, file=sys.stderr)
            stopping.wait(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
