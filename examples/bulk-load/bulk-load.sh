#!/bin/sh
# Publishes an NDJSON file, one message a line, and prints the lines that were not accepted.
#
#   ./bulk-load.sh QUEUE FILE
#
# Exits with 0 if RabbitMQ has confirmed every message.
set -eu
GATEWAY=${GATEWAY:-http://127.0.0.1:8080}
results=$(mktemp)
trap 'rm -f "$results"' EXIT

# -T streams the file while reading it, so the file may be larger than the memory.
curl -sS --fail-with-body -X POST -H 'content-type: application/x-ndjson' -T "$2" -o "$results" \
  "$GATEWAY/queues/$1/messages/batch" || {
  cat "$results" >&2
  exit 1
}

# One result a line, and the totals in the last. Without totals the connection broke: lines without a result are unknown.
totals=$(tail -n 1 "$results")
case $totals in
  *'"published"'*) ;;
  *) echo "broken off after $(wc -l <"$results") results" >&2 && exit 1 ;;
esac
grep -v '"status":"confirmed"' "$results" | grep '"index"' >&2 || true
echo "$totals"
case $totals in *'"failed":0'*) ;; *) exit 1 ;; esac
