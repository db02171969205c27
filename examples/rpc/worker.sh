#!/bin/sh
# A worker that answers calls with nothing but HTTP. It runs a command for each call, with the request on standard input,
# and replies with the command's output.
#
#   ./worker.sh QUEUE COMMAND [ARGUMENT...]
set -eu
GATEWAY=${GATEWAY:-http://127.0.0.1:8080}
queue=$1
shift

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
stop=
trap 'stop=1' TERM INT

header() { sed -n "s/^$1: //p" "$dir/headers" | tr -d '\r'; }
# Percent-encodes the special characters of a reply address.
encode() { sed 's/%/%25/g; s/+/%2B/g; s,/,%2F,g; s/=/%3D/g'; }

while [ -z "$stop" ]; do
  if ! curl -sS --fail -D "$dir/headers" -o "$dir/request" -X POST \
    "$GATEWAY/queues/$queue/messages/receive?format=raw&wait=5s"; then
    [ -n "$stop" ] || sleep 1
    continue
  fi
  lease=$(header lease-id)
  [ -n "$lease" ] || continue
  "$@" <"$dir/request" >"$dir/reply" || echo "the command failed" >"$dir/reply"
  # A 404 here means that the caller has stopped waiting: nobody needs the reply any more.
  curl -sS -o "$dir/sent" -H "amqp-correlation-id: $(header amqp-correlation-id)" -H 'content-type: text/plain' \
    --data-binary "@$dir/reply" "$GATEWAY/exchanges/amq.default/messages?routing_key=$(header amqp-reply-to | encode)" || true
  curl -sS -o "$dir/acked" -X POST "$GATEWAY/leases/$lease/ack" || true
done
