#!/usr/bin/env python3
"""A worker that answers calls, with pika, as in the RabbitMQ tutorial. It does not use HTTP.

    ./worker.py QUEUE          (AMQP_URL is the address of RabbitMQ)
"""

import os
import sys

import pika


def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def on_request(channel, method, properties, body):
    reply = pika.BasicProperties(correlation_id=properties.correlation_id, content_type="text/plain")
    try:
        answer = str(fibonacci(int(body)))
    except ValueError:
        answer = "not a number"
    channel.basic_publish(exchange="", routing_key=properties.reply_to, properties=reply, body=answer)
    channel.basic_ack(delivery_tag=method.delivery_tag)


def main(queue):
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    channel.queue_declare(queue=queue, durable=True)
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue=queue, on_message_callback=on_request)
    channel.start_consuming()


if __name__ == "__main__":
    main(*sys.argv[1:])
