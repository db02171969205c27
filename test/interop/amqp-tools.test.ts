// Messages between the gateway and amqp-tools (rabbitmq-c) of Debian.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { freshQueue, startGateway } from '../support/gateway.js'
import { amqpTool } from '../support/pika-client.js'

const gateway = await startGateway()

describe('amqp-tools', () => {
  it('the gateway receives what amqp-publish published, with all properties', async () => {
    const queue = await freshQueue(gateway)
    const args = [
      '-r',
      queue,
      '-p',
      '-C',
      'text/csv',
      '-E',
      'identity',
      '-t',
      'answers',
      '-H',
      'tenant: a',
      '-H',
      'größe: 漢字',
      '-b',
      'a,ü\n',
    ]
    await amqpTool('amqp-publish', args)
    const [message] = (await gateway.get(`/queues/${queue}/messages?wait=2s`).expect(200)).body.messages
    assert.equal(message.payload, 'a,ü\n')
    assert.deepEqual(message.properties, {
      content_type: 'text/csv',
      content_encoding: 'identity',
      delivery_mode: 2,
      reply_to: 'answers',
      headers: { tenant: 'a', größe: '漢字' },
    })
    await gateway.post(`/leases/${message.lease.id}/ack`).expect(204)
  })

  it('amqp-get gets what the gateway published, byte for byte', async () => {
    const queue = await freshQueue(gateway)
    const body = Buffer.from(Array.from({ length: 1000 }, (_, i) => i % 256))
    for (const bytes of [body, Buffer.alloc(0)]) {
      await fetch(`${gateway.url}/queues/${queue}/messages`, { method: 'POST', body: bytes })
      assert.deepEqual(await amqpTool('amqp-get', ['-q', queue]), bytes)
    }
  })

  it('amqp-consume consumes what the gateway published', async () => {
    const queue = await freshQueue(gateway)
    for (const text of ['one', 'two', 'three'])
      await gateway.post(`/queues/${queue}/messages`).type('text/plain').send(text).expect(201)
    const output = await amqpTool('amqp-consume', ['-q', queue, '-c', '3', '-p', '1', 'sed', 's/$/;/'])
    assert.equal(output.toString().replaceAll('\n', ''), 'one;two;three;')
    assert.equal((await gateway.get(`/queues/${queue}`).expect(200)).body.message_count, 0)
  })
})
