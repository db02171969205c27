// Messages with header types that RabbitMQ passes on and client libraries may not know. amqplib's own decoder throws at type L,
// which closes the connection with all of its channels.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

/** The type tags of AMQP field values to publish, one per letter. */
export const EXOTIC_TAGS = 'LliusbBfd'

const PUBLISH = `
import os, struct, sys, json, pika, pika.data
encode = pika.data.encode_value
def odd(pieces, value):
    if isinstance(value, str) and value.startswith("tag:"):
        tag = value[4]
        sizes = {"L": ">q", "l": ">q", "i": ">I", "u": ">H", "s": ">h", "b": ">b", "B": ">B", "f": ">f", "d": ">d"}
        piece = tag.encode() + struct.pack(sizes[tag], 7)
        pieces.append(piece)
        return len(piece)
    return encode(pieces, value)
pika.data.encode_value = odd
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.confirm_delivery()
for message in json.loads(sys.argv[2]):
    headers = {"odd": "tag:" + message["tag"], "deep": [{"odd": "tag:" + message["tag"]}]}
    properties = pika.BasicProperties(headers=headers, delivery_mode=2)
    channel.basic_publish("", sys.argv[1], message["body"], properties, mandatory=True)
    print(message["body"], flush=True)
connection.close()
`

/** Publishes messages with a header of type `tag` each, with Debian's pika. Resolves with the bodies that were confirmed. */
export async function publishExoticHeaders(
  amqpUrl: string,
  queue: string,
  messages: { tag: string; body: string }[],
): Promise<string[]> {
  const confirmed: string[] = []
  const publisher = spawn('/usr/bin/python3', ['-c', PUBLISH, queue, JSON.stringify(messages)], {
    env: { AMQP_URL: amqpUrl },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  createInterface({ input: publisher.stdout }).on('line', (body) => confirmed.push(body))
  await new Promise((resolve) => publisher.once('close', resolve))
  return confirmed
}
