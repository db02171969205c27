"""Sends requests as two HTTP clients of Python do, with their default headers. Usage: http_client.py urllib|requests BASE

Each line of the input is a JSON array: method, path, content type or null, body or null. Each line of the output is a status.
An empty body is what a program sends that has nothing to say: `data=b''`.
"""

import json
import sys
import urllib.error
import urllib.request

library, base = sys.argv[1:]


def by_urllib(method, url, headers, body):
    data = None if body is None else body.encode()
    try:
        return urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code


def by_requests(method, url, headers, body):
    import requests

    return requests.request(method, url, headers=headers, data=body, timeout=20).status_code


for line in sys.stdin:
    method, path, content_type, body = json.loads(line)
    headers = {} if content_type is None else {"Content-Type": content_type}
    print((by_urllib if library == "urllib" else by_requests)(method, base + path, headers, body), flush=True)
