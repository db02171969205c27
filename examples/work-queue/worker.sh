#!/bin/sh
# A worker: takes one task at a time and runs a command over it, with the task on the command's standard input.
#
#   ./worker.sh QUEUE COMMAND [ARGUMENT...]
#
# If the command exits with 0, the task is done. With 65 (the task will never succeed) it goes to the queue's dead-letter
# exchange. With any other status it goes back for another try. SIGTERM and Ctrl-C stop the worker after its current task.
set -eu
GATEWAY=${GATEWAY:-http://127.0.0.1:8080}
LEASE=${LEASE:-30} # seconds
queue=$1
shift

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
stop=
trap 'stop=1' TERM INT

header() { sed -n "s/^$1: //p" "$dir/headers" | tr -d '\r'; }

# Renews a lease while the work goes on. If this script is killed, the lease runs out and another worker gets the task.
renew() {
  while sleep $((LEASE / 3)) && kill -0 $$; do
    curl -sS --fail --max-time 60 -o "$dir/renewed" -X POST "$GATEWAY/leases/$1/extend" || return 0
  done
}

while [ -z "$stop" ]; do
  if ! curl -sS --fail --max-time 60 -D "$dir/headers" -o "$dir/task" \
    -X POST "$GATEWAY/queues/$queue/messages/receive?format=raw&wait=5s&lease=${LEASE}s"; then
    [ -n "$stop" ] || sleep 1
    continue
  fi
  lease=$(header lease-id)
  [ -n "$lease" ] || continue # nothing came

  renew "$lease" 2>"$dir/renewal" &
  renewal=$!
  result=0
  # Ctrl-C in a terminal is for the worker. The worker lets the command finish.
  (trap '' INT && exec "$@") <"$dir/task" || result=$?
  kill "$renewal" 2>"$dir/renewal" || true

  case $result in
    0) verdict=ack body= ;;
    65) verdict=nack body='{"requeue": false}' ;;
    *) verdict=nack body='{"requeue": true}' ;;
  esac
  # A 503 may be repeated. After any other failure the lease ends by itself.
  curl -sS --fail --max-time 60 --retry 5 -H 'content-type: application/json' -X POST -d "$body" \
    "$GATEWAY/leases/$lease/$verdict" || echo "not settled: $lease" >&2
  # Without a pause a failed task is back at once, and keeps all workers busy.
  case $result in 0 | 65) ;; *) [ -n "$stop" ] || sleep 1 ;; esac
done
