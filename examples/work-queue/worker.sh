#!/bin/sh
# A worker: takes one task at a time and runs a command over it, with the task on the command's standard input.
#
#   ./worker.sh QUEUE COMMAND [ARGUMENT...]
#
# The command ends with 0: the task is done. With 65 (a task that will never succeed): it goes to the queue's dead-letter
# exchange. With anything else: it goes back, for another try. SIGTERM and Ctrl-C end the worker after its present task.
set -eu
GATEWAY=${GATEWAY:-http://127.0.0.1:8080}
queue=$1
shift

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
stop=
trap 'stop=1' TERM INT

header() { sed -n "s/^$1: //p" "$dir/headers" | tr -d '\r'; }

while [ -z "$stop" ]; do
  if ! curl -sS --fail -D "$dir/headers" -o "$dir/task" \
    "$GATEWAY/queues/$queue/messages?format=raw&wait=5s&lease=30s"; then
    [ -n "$stop" ] || sleep 1
    continue
  fi
  lease=$(header lease-id)
  [ -n "$lease" ] || continue # nothing came

  # The lease is renewed for as long as the work takes; if this script dies, it runs out and another worker has the task.
  (while sleep 10; do curl -sS -X POST "$GATEWAY/leases/$lease/extend"; done) >"$dir/renewal" 2>&1 &
  renewal=$!
  result=0
  "$@" <"$dir/task" || result=$?
  kill "$renewal"

  case $result in
    0) verdict=ack body= ;;
    65) verdict=nack body='{"requeue": false}' ;;
    *) verdict=nack body='{"requeue": true}' ;;
  esac
  # A 503 may be asked again. Whatever else fails, the lease ends by itself.
  curl -sS --fail --retry 5 -H 'content-type: application/json' -X POST -d "$body" "$GATEWAY/leases/$lease/$verdict" ||
    echo "not settled: $lease" >&2
done
