#!/bin/sh
# Publishes a file of NDJSON, a message a line, and shows the lines that were not taken.
#
#   ./bulk-load.sh QUEUE FILE
#
# Ends with 0 when RabbitMQ has confirmed every message.
set -eu
GATEWAY=${GATEWAY:-http://127.0.0.1:8080}
results=$(mktemp)
trap 'rm -f "$results"' EXIT

# -T streams the file as it is read, so that it may be larger than the memory.
curl -sS --fail-with-body -X POST -H 'content-type: application/x-ndjson' -T "$2" -o "$results" \
  "$GATEWAY/queues/$1/messages/batch" || {
  cat "$results" >&2
  exit 1
}

# A result a line, and the totals in the last. No totals: the connection broke, and what has no result is not known.
totals=$(tail -n 1 "$results")
case $totals in
  *'"published"'*) ;;
  *) echo "broken off after $(wc -l <"$results") results" >&2 && exit 1 ;;
esac
grep -v '"status":"confirmed"' "$results" | grep '"index"' >&2 || true
echo "$totals"
case $totals in *'"failed":0'*) ;; *) exit 1 ;; esac
