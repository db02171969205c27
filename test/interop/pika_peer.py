"""A pika client that runs one JSON command per line of stdin and writes one JSON result per line to stdout.

Python values without a JSON form are written as {"py": <type>, "v": <text>}, so that a test sees their type.
"""
import base64
import datetime
import decimal
import json
import os
import sys

import pika

EPOCH = datetime.datetime(1970, 1, 1)
PROPERTIES = [
    "content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to",
    "expiration", "message_id", "timestamp", "type", "user_id", "app_id",
]


def from_json(value):
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "py" not in value:
        return {name: from_json(item) for name, item in value.items()}
    kind, text = value["py"], value["v"]
    if kind == "int":
        return int(text)
    if kind == "long":
        return pika.compat.long(text)
    if kind == "bytes":
        return base64.b64decode(text)
    if kind == "decimal":
        return decimal.Decimal(text)
    if kind == "datetime":
        return EPOCH + datetime.timedelta(seconds=int(text))
    raise ValueError(kind)


def to_json(value):
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, bytes):
        return {"py": "bytes", "v": base64.b64encode(value).decode()}
    if isinstance(value, decimal.Decimal):
        return {"py": "decimal", "v": str(value)}
    if isinstance(value, datetime.datetime):
        return {"py": "datetime", "v": str(int((value - EPOCH).total_seconds()))}
    if isinstance(value, float):
        return {"py": "float", "v": repr(value)}
    return {"py": "int", "v": str(int(value))}


def message(method, properties, body):
    if method is None:
        return None
    set_properties = {name: getattr(properties, name) for name in PROPERTIES if getattr(properties, name) is not None}
    return {
        "delivery_tag": method.delivery_tag,
        "redelivered": method.redelivered,
        "exchange": method.exchange,
        "routing_key": method.routing_key,
        "properties": set_properties,
        "headers": to_json(properties.headers or {}),
        "body": base64.b64encode(body).decode(),
    }


def main():
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.confirm_delivery()
    for line in sys.stdin:
        command = json.loads(line)
        what = command["do"]
        answer = {}
        if what == "publish":
            properties = pika.BasicProperties(headers=from_json(command.get("headers") or {}) or None, **command.get("properties", {}))
            channel.basic_publish(
                command.get("exchange", ""), command["routing_key"], base64.b64decode(command["body"]), properties, mandatory=True
            )
        elif what == "get":
            answer = message(*channel.basic_get(command["queue"]))
        elif what == "ack":
            channel.basic_ack(command["delivery_tag"])
        elif what == "nack":
            channel.basic_nack(command["delivery_tag"], requeue=command["requeue"])
        elif what == "count":
            answer = channel.queue_declare(command["queue"], passive=True).method.message_count
        print(json.dumps(answer), flush=True)
    connection.close()


main()
