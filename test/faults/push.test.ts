// Faults of endpoints, gateways and the broker: no message of a subscription is lost, and no other subscription is disturbed.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startBroker } from '../../scripts/broker.mjs'
import { isEmpty, QUICK, startReceiver, subscribe, subscribed, waiting } from '../support/endpoint.js'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { readyGateway } from '../support/process.js'

const dir = await mkdtemp(join(tmpdir(), 'gateway-push-'))
const broker = await startBroker({ dir })
after(async () => {
  await broker.kill()
  await rm(dir, { recursive: true, force: true })
})
const env = { AMQP_URL: broker.url, PUSH_ALLOWED_NETWORKS: '127.0.0.0/8', BROKER_TIMEOUT: '2s' }
const gateway = await startGateway(env)
const ready = () => eventually(() => assert.equal(gateway.app.services.notReady(), undefined), 60_000)
const fill = async (queue: string, from: number, to: number) => {
  const messages = Array.from({ length: to - from }, (_, n) => ({ payload: `${from + n}` }))
  const { body, text } = await gateway.post(`/queues/${queue}/messages/batch`).send({ messages })
  assert.equal(body.published, messages.length, text)
}
/** Retries without giving up. */
const PATIENT = { max_attempts: 1000, backoff: QUICK }

/** An endpoint that does not speak HTTP by itself: `answer` gets the socket once it has received data. */
async function rawEndpoint(answer: (socket: Socket) => void) {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
    socket.once('data', () => endpoint.answer(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const address = server.address()
  const endpoint = { answer, url: `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}/` }
  return endpoint
}

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n'
const drip = (socket: Socket, text: string) => {
  const timer = setInterval(() => {
    if (socket.destroyed || text === '') return clearInterval(timer)
    socket.write(text[0]!)
    text = text.slice(1)
  }, 20)
}
const FAULTS: Record<string, (socket: Socket) => void> = {
  'responds too slowly': (socket) => drip(socket, OK),
  'does not respond': () => undefined,
  'resets the connection': (socket) => socket.resetAndDestroy(),
  'closes the connection': (socket) => socket.end(),
  'responds with garbage': (socket) => socket.end('\u0000\u0001garbage\r\n\r\n'),
  'responds with half a body': (socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf'),
  'responds with endless headers': (socket) => socket.write(`HTTP/1.1 200 OK\r\nx: ${'x'.repeat(100_000)}`),
  'ends its response in the middle of the status line': (socket) => socket.end('HTTP/1.1 20'),
}

describe('faulty endpoint', () => {
  for (const [what, answer] of Object.entries(FAULTS)) {
    it(`an endpoint that ${what} costs an attempt and no message`, async () => {
      const endpoint = await rawEndpoint(answer)
      const queue = await freshQueue(gateway, { type: 'quorum' })
      const name = freshName('subscription')
      await subscribe(gateway, name, { queue, url: endpoint.url, timeout: '300ms', retry: PATIENT })
      await fill(queue, 0, 1)
      await eventually(async () => assert.ok((await gateway.get(`/subscriptions/${name}`).expect(200)).body.failed >= 2))
      assert.equal((await gateway.get(`/subscriptions/${name}`)).body.delivered, 0)
      endpoint.answer = (socket) => socket.end(OK)
      await eventually(async () => assert.equal((await gateway.get(`/subscriptions/${name}`).expect(200)).body.delivered, 1))
      await isEmpty(gateway, queue)
    })
  }

  for (const interim of ['100 Continue', '102 Processing', '103 Early Hints\r\nlink: </a>'])
    it(`an endpoint that sends ${interim.slice(0, 3)} unasked gets its message once`, async () => {
      let requests = 0
      const endpoint = await rawEndpoint((socket) => {
        requests++
        socket.end(`HTTP/1.1 ${interim}\r\n\r\nHTTP/1.1 ${interim}\r\n\r\n${OK}`)
      })
      const queue = await freshQueue(gateway)
      const name = freshName('subscription')
      await subscribe(gateway, name, { queue, url: endpoint.url, retry: PATIENT })
      await fill(queue, 0, 1)
      await eventually(async () => assert.equal((await gateway.get(`/subscriptions/${name}`).expect(200)).body.delivered, 1))
      await isEmpty(gateway, queue)
      assert.equal(requests, 1)
    })

  it('an endless response with status 200 is read up to a limit and counts as delivered', async () => {
    const endpoint = await rawEndpoint((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n')
      const pump = (): void => {
        while (!socket.destroyed && socket.write(`4000\r\n${'x'.repeat(0x4000)}\r\n`));
        if (!socket.destroyed) socket.once('drain', pump)
      }
      pump()
    })
    const queue = await freshQueue(gateway)
    const name = freshName('subscription')
    await subscribe(gateway, name, { queue, url: endpoint.url, timeout: '5s' })
    await fill(queue, 0, 1)
    await eventually(async () => assert.equal((await gateway.get(`/subscriptions/${name}`).expect(200)).body.delivered, 1))
    await isEmpty(gateway, queue)
  })

  it('an endpoint that was down for a while gets every message', { timeout: 120_000 }, async () => {
    const { receiver, queue, status } = await subscribed(gateway, { retry: PATIENT })
    await fill(queue, 0, 20)
    await receiver.many(20)
    await receiver.close()
    await fill(queue, 20, 60)
    await eventually(async () => assert.equal((await status()).state, 'failing'))
    await sleep(5000) // attempts without a pause would be hundreds by then
    assert.ok((await status()).failed < 15, 'an endpoint that is down gets more than probes')
    await receiver.listen()
    await eventually(() => assert.equal(new Set(receiver.bodies()).size, 60), 60_000)
    await isEmpty(gateway, queue)
    assert.equal(receiver.got.length, 60, 'a failed attempt reached the endpoint')
  })
})

describe('ten subscriptions', () => {
  it('an endpoint that does not respond does not delay other subscriptions', async () => {
    const sets = await Promise.all(Array.from({ length: 10 }, () => subscribed(gateway, { retry: PATIENT, timeout: '30s' })))
    const [dead, ...others] = sets
    dead!.receiver.reply = () => undefined
    for (const { queue } of sets) await fill(queue, 0, 100)
    // Less than the timeout of the endpoint that does not respond.
    await Promise.all(others.map(({ receiver }) => receiver.many(100, 25_000)))
    for (const { receiver, queue } of others) {
      await isEmpty(gateway, queue)
      assert.equal(receiver.got.length, 100)
    }
    assert.equal(dead!.receiver.mostOpen, 1)
    await gateway.delete(`/subscriptions/${dead!.name}`).expect(204)
    await dead!.receiver.close()
    await eventually(async () => assert.equal(await waiting(gateway, dead!.queue), 100))
  })
})

describe('subscriptions during a memory alarm', () => {
  it('during a memory alarm failed deliveries keep their message and slow down, and successful ones are acknowledged', {
    timeout: 200_000,
  }, async () => {
    const failing = await subscribed(gateway, { retry: PATIENT, concurrency: 2 })
    const fine = await subscribed(gateway)
    await gateway.post(`/subscriptions/${failing.name}/pause`).expect(200)
    await gateway.post(`/subscriptions/${fine.name}/pause`).expect(200)
    await fill(failing.queue, 0, 5)
    await fill(fine.queue, 0, 5)
    failing.receiver.reply = 500
    for (const { name } of [failing, fine]) await gateway.post(`/subscriptions/${name}/resume`).expect(200)
    await failing.receiver.many(1)
    await broker.ctl('set_vm_memory_high_watermark', '0.00001')
    await fine.receiver.many(5)
    await isEmpty(gateway, fine.queue)
    await eventually(() => assert.equal(gateway.app.services.vhosts.default.publisher.connection.state, 'blocked'))
    await sleep(4000) // attempts without a pause would be hundreds by then
    assert.ok(failing.receiver.got.length <= 15, `${failing.receiver.got.length} attempts`)
    await broker.ctl('set_vm_memory_high_watermark', '0.4')
    await ready()
    failing.receiver.reply = 200
    await eventually(() => assert.equal(new Set(failing.receiver.bodies()).size, 5), 60_000)
    // The circuit breaker may wait up to a minute before its next probe.
    await eventually(() => isEmpty(gateway, failing.queue), 80_000)
  })
})

describe('broker crash with subscriptions', () => {
  it('subscriptions and their messages survive a crash of the broker', { timeout: 180_000 }, async () => {
    const { receiver, queue, name } = await subscribed(gateway, { retry: PATIENT })
    // In RabbitMQ 3.10 a quorum queue or a stream that is less than a second old does not survive a crash. There is no event to
    // wait for.
    await sleep(3000)
    await fill(queue, 0, 50)
    await receiver.many(10)
    await broker.kill()
    await broker.start()
    await ready()
    await eventually(() => fill(queue, 50, 60), 60_000)
    await eventually(() => assert.equal(new Set(receiver.bodies()).size, 60), 90_000)
    await eventually(() => isEmpty(gateway, queue), 30_000)
    const other = await startGateway(env)
    await eventually(() => other.get(`/subscriptions/${name}`).expect(200))
    await other.close()
  })
})

describe('killed gateway with subscriptions', () => {
  it('a gateway that is killed while it delivers loses no message, and repeats only deliveries in progress', {
    timeout: 120_000,
  }, async () => {
    const vhost = freshName('killed')
    await broker.ctl('add_vhost', vhost)
    await broker.ctl('set_permissions', '-p', vhost, 'guest', '.*', '.*', '.*')
    const own = { ...env, AMQP_URL: new URL(`/${vhost}`, broker.url).href, AUTH: 'none' }
    const here = await startGateway({ AMQP_URL: own.AMQP_URL, PUSH_ALLOWED_NETWORKS: '127.0.0.0/8' })
    const processes = [await readyGateway(own), await readyGateway(own)]
    const receiver = await startReceiver()
    /** When the 204 of each message was written, by its body. */
    const answered = new Map<string, number>()
    receiver.reply = (response, { body }) =>
      setTimeout(() => response.writeHead(204).end(() => answered.set(body.toString(), performance.now())), 5)
    const queue = freshName('queue')
    await here.put(`/queues/${queue}`).send({ type: 'quorum' }).expect(201)
    await here.put(`/subscriptions/s`).send({ queue, url: receiver.url, concurrency: 10, retry: PATIENT }).expect(201)
    const messages = Array.from({ length: 3000 }, (_, n) => ({ payload: `${n}` }))
    await here.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
    await receiver.many(600, 30_000)
    for (const { child } of processes) child.kill('SIGKILL')
    const killed = performance.now()
    await Promise.all(processes.map(({ exited }) => exited))
    await eventually(() => assert.equal(new Set(receiver.bodies()).size, 3000), 60_000)
    await isEmpty(here, queue)
    const twice = receiver.bodies().filter((body, index, all) => all.indexOf(body) !== index)
    assert.ok(twice.length <= 2 * 10 * 2, `${twice.length} were delivered twice`)
    // A message is repeated only if its first delivery was less than a second before the kill.
    for (const body of twice) {
      const [first] = receiver.got.filter((one) => one.body.toString() === body)
      assert.ok(first!.at > killed - 1000, `${body} was delivered ${killed - first!.at} ms before`)
    }
    await here.close()
    await broker.ctl('delete_vhost', vhost)
  })
})
