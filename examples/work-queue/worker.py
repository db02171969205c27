#!/usr/bin/env python3
"""A worker in Python, with only the standard library.

    ./worker.py QUEUE

It takes one task at a time, a JSON object, and calls work(). SIGTERM and Ctrl-C stop it after its current task.
"""

import http.client
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
LEASE = int(os.environ.get("LEASE", "30"))  # seconds


class Unworkable(Exception):
    """A task that will never succeed: it goes to the queue's dead-letter exchange."""


class Refused(Exception):
    """The gateway refused the request; the text is its reason."""


def work(task):
    """Your work. If it returns, the task is done. If it raises, the task goes back for another try."""
    time.sleep(task.get("seconds", 0))
    print("done", json.dumps(task), flush=True)


def call(method, path, body=None):
    """One request; repeated if the gateway says that this helps."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(GATEWAY + path, data, {"content-type": "application/json"}, method=method)
    for attempt in range(6):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503) or attempt == 5:
                raise Refused(error.read().decode()) from None
            time.sleep(float(error.headers.get("retry-after", 1)))


# What call() raises: no response, a broken response, or a refusal.
FAILURES = (OSError, http.client.HTTPException, Refused)


def renew(lease, done):
    """Extends a lease until the work is done."""
    while not done.wait(LEASE / 3):
        try:
            call("POST", f"/leases/{lease}/extend")
        except FAILURES as error:
            print("not renewed:", error, file=sys.stderr)


def task_of(payload):
    """The task in a message. JSON that was published without its content type, as `curl -d` does, is a string."""
    try:
        task = json.loads(payload) if isinstance(payload, str) else payload
    except ValueError:
        task = None
    if not isinstance(task, dict):
        raise Unworkable("not a JSON object")
    return task


def handle(message):
    lease = message["lease"]["id"]
    done = threading.Event()
    threading.Thread(target=renew, args=(lease, done), daemon=True).start()
    verdict, body = "ack", None
    try:
        work(task_of(message["payload"]))
    except Unworkable as error:
        print("rejected:", error, file=sys.stderr)
        verdict, body = "nack", {"requeue": False}
    except Exception as error:
        print("failed, for another try:", repr(error), file=sys.stderr)
        time.sleep(1)  # otherwise the task is back at once, and keeps all workers busy
        verdict, body = "nack", {"requeue": True}
    finally:
        done.set()
    # 410: the lease ran out, and another worker has the task. A task may be done twice: make your work repeatable.
    call("POST", f"/leases/{lease}/{verdict}", body)


def main(queue):
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    path = f"/queues/{urllib.parse.quote(queue, safe='')}/messages/receive?wait=5s&lease={LEASE}s"
    while not stopping.is_set():
        try:
            for message in call("POST", path)["messages"]:
                handle(message)
        except FAILURES as error:
            print(error, file=sys.stderr)
            stopping.wait(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
