#!/bin/sh
# A producer: publishes every line of its standard input as a task, and prints the lines that were not accepted.
#
#   ./produce.sh QUEUE < tasks.txt
set -eu
GATEWAY=${GATEWAY:-http://127.0.0.1:8080}
lost=0
while IFS= read -r line; do
  # 201: RabbitMQ has the task. Without a response, or with a 503 or 504, curl repeats the request with the same message id, so
  # a worker can recognize a task that it gets twice.
  printf '%s' "$line" |
    curl -sS --fail --max-time 60 --retry 5 --retry-connrefused -o /dev/null -H 'content-type: application/json' \
      -H "amqp-message-id: $(cat /proc/sys/kernel/random/uuid)" --data-binary @- "$GATEWAY/queues/$1/messages" || {
    echo "not published: $line" >&2
    lost=1
  }
done
exit $lost
