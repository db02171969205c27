"""A Celery application with one task. Its queue is there already, with arguments that Celery does not know."""

import os
import sys

from celery import Celery
from kombu import Queue

app = Celery("tasks", broker=os.environ["AMQP_URL"])
app.conf.task_queues = [Queue(os.environ["CELERY_QUEUE"], no_declare=True)]
app.conf.task_default_queue = os.environ["CELERY_QUEUE"]
app.conf.broker_connection_retry_on_startup = True


@app.task(name="add")
def add(one, other):
    print(f"sum {one + other}", flush=True)


if __name__ == "__main__":
    for one in sys.argv[1:]:
        add.apply_async((int(one), 1), time_limit=600, soft_time_limit=300)
