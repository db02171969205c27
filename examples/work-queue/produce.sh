#!/bin/sh
# A producer: publishes every line of its standard input as a task, and says which were not taken.
#
#   ./produce.sh QUEUE < tasks.txt
set -eu
GATEWAY=${GATEWAY:-http://127.0.0.1:8080}
lost=0
while IFS= read -r line; do
  # 201: RabbitMQ has it. Where nobody answers, or a 503 or 504 does, it is asked again with the same message id: a worker that
  # sees one twice can tell.
  printf '%s' "$line" |
    curl -sS --fail --max-time 60 --retry 5 --retry-connrefused -o /dev/null -H 'content-type: application/json' \
      -H "amqp-message-id: $(cat /proc/sys/kernel/random/uuid)" --data-binary @- "$GATEWAY/queues/$1/messages" || {
    echo "not published: $line" >&2
    lost=1
  }
done
exit $lost
