// Calls over HTTP to an AMQP worker with python3-pika, as in the RabbitMQ tutorial.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { after, describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshQueue, startGateway } from '../support/gateway.js'

const gateway = await startGateway()

const WORKER = `
import os, pika, sys
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
def on_request(ch, method, props, body):
    reply = pika.BasicProperties(correlation_id=props.correlation_id, content_type="text/plain", headers={"worker": "pika"})
    ch.basic_publish(exchange="", routing_key=props.reply_to, properties=reply, body=str(fib(int(body))))
    ch.basic_ack(delivery_tag=method.delivery_tag)
channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue=sys.argv[1], on_message_callback=on_request)
channel.start_consuming()
`

describe('calls to a pika worker', () => {
  it('a pika worker answers concurrent calls made over HTTP', async () => {
    const queue = await freshQueue(gateway)
    const worker = spawn('/usr/bin/python3', ['-c', WORKER, queue], { env: { AMQP_URL }, stdio: ['ignore', 'ignore', 'inherit'] })
    after(() => worker.kill('SIGKILL'))
    await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}`)).body.consumer_count, 1))
    const expected = [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55]
    const answers = await Promise.all(
      expected.map((_, n) => gateway.post(`/queues/${queue}/rpc`).type('text/plain').send(String(n)).expect(200)),
    )
    for (const [n, { text, headers }] of answers.entries()) {
      assert.equal(text, String(expected[n]))
      assert.equal(headers['amqp-header-worker'], 'pika')
    }
  })
})
