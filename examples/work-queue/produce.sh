#!/bin/sh
# A producer: publishes every line of its standard input as a task, and says which were not taken.
#
#   ./produce.sh QUEUE < tasks.txt
set -eu
GATEWAY=${GATEWAY:-http://127.0.0.1:8080}
lost=0
while IFS= read -r line; do
  # 201: RabbitMQ has it. 503 and 504 are asked again, with the same message id: a worker that sees one twice can tell.
  printf '%s' "$line" |
    curl -sS --fail --retry 5 -o /dev/null -H 'content-type: application/json' -H "amqp-message-id: $(cat /proc/sys/kernel/random/uuid)" \
      --data-binary @- "$GATEWAY/queues/$1/messages" || {
    echo "not published: $line" >&2
    lost=1
  }
done
exit $lost
