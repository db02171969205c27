// Endpoints, gateways and the broker misbehave; no message is lost, and no other subscription notices.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
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
const env = { AMQP_URL: broker.url, PUSH_ALLOW: '127.0.0.0/8', BROKER_TIMEOUT: '2s' }
const gateway = await startGateway(env)
const ready = () => eventually(() => assert.equal(gateway.app.services.notReady(), undefined), 60_000)
const fill = async (queue: string, from: number, to: number) => {
  const messages = Array.from({ length: to - from }, (_, n) => ({ payload: `${from + n}` }))
  const { body, text } = await gateway.post(`/queues/${queue}/messages/batch`).send({ messages })
  assert.equal(body.published, messages.length, text)
}
/** Tries as long as it takes. */
const PATIENT = { max_attempts: 1000, backoff: QUICK }

/** An endpoint without a word of HTTP of its own: each connection is handed over once a request has come. */
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
const MISBEHAVIOURS: Record<string, (socket: Socket) => void> = {
  'takes too long over its answer': (socket) => drip(socket, OK),
  hangs: () => undefined,
  'resets the connection': (socket) => socket.resetAndDestroy(),
  'hangs up': (socket) => socket.end(),
  'answers garbage': (socket) => socket.end('\u0000\u0001garbage\r\n\r\n'),
  'answers half a body': (socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf'),
  'answers with headers without end': (socket) => socket.write(`HTTP/1.1 200 OK\r\nx: ${'x'.repeat(100_000)}`),
  'ends in the middle of a status': (socket) => socket.end('HTTP/1.1 20'),
}

describe('an endpoint that', () => {
  for (const [what, answer] of Object.entries(MISBEHAVIOURS)) {
    it(`${what} costs an attempt, and no message`, async () => {
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

  it('answers without end is read to a bound, and its 200 holds', async () => {
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

  it('is gone for a while gets everything when it is back', { timeout: 120_000 }, async () => {
    const { receiver, queue, status } = await subscribed(gateway, { retry: PATIENT })
    await fill(queue, 0, 20)
    await receiver.many(20)
    await receiver.close()
    await fill(queue, 20, 60)
    await eventually(async () => assert.equal((await status()).state, 'failing'))
    await new Promise((resolve) => setTimeout(resolve, 5000)) // how long it is gone
    assert.ok((await status()).failed < 15, 'it is only probed')
    await receiver.listen()
    await eventually(() => assert.equal(new Set(receiver.bodies()).size, 60), 60_000)
    await isEmpty(gateway, queue)
    assert.equal(receiver.got.length, 60, 'no attempt that failed had reached it')
  })
})

describe('of ten subscriptions a dead one', () => {
  it('does not keep the others from delivering', async () => {
    const sets = await Promise.all(Array.from({ length: 10 }, () => subscribed(gateway, { retry: PATIENT, timeout: '30s' })))
    const [dead, ...others] = sets
    dead!.receiver.reply = () => undefined
    for (const { queue } of sets) await fill(queue, 0, 100)
    const from = performance.now()
    await Promise.all(others.map(({ receiver }) => receiver.many(100, 30_000)))
    assert.ok(performance.now() - from < 20_000)
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

describe('a memory alarm', () => {
  it('keeps what fails in its place, neither lost nor tried without end, and acknowledges what succeeds', {
    timeout: 120_000,
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
    await eventually(async () => assert.match((await gateway.get('/health/ready')).text, /blocked/))
    await new Promise((resolve) => setTimeout(resolve, 4000)) // while it lasts
    assert.ok(failing.receiver.got.length <= 15, `${failing.receiver.got.length} attempts`)
    await broker.ctl('set_vm_memory_high_watermark', '0.4')
    await ready()
    failing.receiver.reply = 200
    await eventually(() => assert.equal(new Set(failing.receiver.bodies()).size, 5), 60_000)
    await isEmpty(gateway, failing.queue)
  })
})

describe('a broker that crashes and starts again', () => {
  it('has the subscriptions and the messages as before', { timeout: 180_000 }, async () => {
    const { receiver, queue, name } = await subscribed(gateway, { retry: PATIENT })
    // A quorum queue, or a stream, that RabbitMQ 3.10 has had for less than a second does not survive a crash.
    await new Promise((resolve) => setTimeout(resolve, 3000))
    await fill(queue, 0, 50)
    await receiver.many(10)
    await broker.kill()
    await broker.start()
    await ready()
    await eventually(() => fill(queue, 50, 60), 60_000)
    await eventually(() => assert.equal(new Set(receiver.bodies()).size, 60), 90_000)
    await eventually(() => isEmpty(gateway, queue), 30_000)
    const anew = await startGateway(env)
    await eventually(() => anew.get(`/subscriptions/${name}`).expect(200))
    await anew.close()
  })
})

describe('a gateway that is killed while it delivers', () => {
  it('loses no message, and of what was acknowledged nothing comes again', { timeout: 120_000 }, async () => {
    const vhost = freshName('killed')
    await broker.ctl('add_vhost', vhost)
    await broker.ctl('set_permissions', '-p', vhost, 'guest', '.*', '.*', '.*')
    const own = { ...env, AMQP_URL: new URL(`/${vhost}`, broker.url).href, AUTH: 'none' }
    const here = await startGateway({ AMQP_URL: own.AMQP_URL, PUSH_ALLOW: '127.0.0.0/8' })
    const processes = [await readyGateway(own), await readyGateway(own)]
    const receiver = await startReceiver()
    /** When each message's 204 had been written out. */
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
    assert.ok(twice.length <= 2 * 10 * 2, `${twice.length} came twice`)
    // What comes again was under way when they were killed: its answer was not older than a moment.
    for (const body of twice) {
      const [first] = receiver.got.filter((one) => one.body.toString() === body)
      assert.ok(first!.at > killed - 1000, `${body} had come ${killed - first!.at} ms before`)
    }
    await here.close()
    await broker.ctl('delete_vhost', vhost)
  })
})
