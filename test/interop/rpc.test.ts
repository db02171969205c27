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

const REQUESTER = `
import os, pika, sys
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
def on_reply(ch, method, props, body):
    print(body.decode(), flush=True)
channel.basic_consume("amq.rabbitmq.reply-to", on_reply, auto_ack=True)
channel.basic_publish("", sys.argv[1], b"ask", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
channel.start_consuming()
`

describe('replies to a pika requester', () => {
  it('a reply over HTTP reaches a pika requester in every form, and no answer says whether it was routed', async () => {
    const queue = await freshQueue(gateway)
    const requester = spawn('/usr/bin/python3', ['-c', REQUESTER, queue], {
      env: { AMQP_URL },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    after(() => requester.kill('SIGKILL'))
    let replies = ''
    requester.stdout.on('data', (chunk) => {
      replies += chunk
    })
    const [message] = (await gateway.get(`/queues/${queue}/messages?wait=10s&ack=auto`).expect(200)).body.messages
    const to: string = message.properties.reply_to
    const paths = {
      queue: `/queues/${encodeURIComponent(to)}/messages`,
      exchange: `/exchanges/amq.default/messages?routing_key=${encodeURIComponent(to)}`,
      mandatory: `/exchanges/amq.default/messages?mandatory=true&routing_key=${encodeURIComponent(to)}`,
    }
    for (const [form, path] of Object.entries(paths)) {
      const { body } = await gateway.post(path).type('text/plain').send(form).expect(201)
      assert.deepEqual(Object.keys(body), ['message_id'], form)
    }
    const batch = await gateway
      .post(`/queues/${encodeURIComponent(to)}/messages/batch`)
      .send({ messages: [{ payload: 'batch' }] })
      .expect(200)
    assert.deepEqual([batch.body.published, batch.body.results[0].status], [1, 'confirmed'])
    const lines = await fetch(`${gateway.url}/exchanges/amq.default/messages/batch`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: `${JSON.stringify({ payload: 'ndjson', routing_key: to })}\n`,
    })
    assert.match(await lines.text(), /"status":"confirmed"/)
    await gateway.post(`${paths.queue}?delay=100ms`).type('text/plain').send('delayed').expect(201)
    const expected = ['queue', 'exchange', 'mandatory', 'batch', 'ndjson', 'delayed']
    await eventually(() => assert.deepEqual(replies.trim().split('\n'), expected))
    await gateway
      .post(`/queues/${encodeURIComponent(`${to}x`)}/messages`)
      .send('nobody')
      .expect(201)
  })
})

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
