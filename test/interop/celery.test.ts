// A Celery worker of Debian. Its AMQP library does not read integers of 8 bits, and then loses every message behind such a one.

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { after, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshName, startGateway } from '../support/gateway.js'
import { redriven } from '../support/redrive.js'

const gateway = await startGateway()
const queue = freshName('celery')
const options = {
  cwd: 'test/interop',
  env: { PATH: process.env['PATH'], AMQP_URL, CELERY_QUEUE: queue, PYTHONDONTWRITEBYTECODE: '1' },
}
const START_TIMEOUT_MS = 60_000

/** Starts a worker of the queue. It is ended after the tests. @returns what it prints */
function startWorker(): { output: () => string } {
  const args = ['-m', 'celery', '-A', 'celery_tasks', 'worker', '-P', 'solo', '-l', 'warning']
  const worker = spawn('/usr/bin/python3', [...args, '--without-gossip', '--without-mingle', '--without-heartbeat'], options)
  after(() => worker.kill('SIGKILL'))
  let output = ''
  for (const stream of [worker.stdout, worker.stderr]) stream.on('data', (chunk) => (output += chunk))
  return { output: () => output }
}

const next = async () => {
  const { messages } = (await gateway.get(`/queues/${queue}/messages?wait=10s`).expect(200)).body
  assert.equal(messages.length, 1)
  return messages[0]
}

describe('a Celery worker', () => {
  it('a worker does tasks with a time limit that were nacked with a delay, or redriven', { timeout: 120_000 }, async () => {
    await gateway.put(`/queues/${queue}`).send({ dead_letter: true }).expect(201)
    for (const name of [queue, `${queue}.dead`]) gateway.cleanups.push(async () => gateway.delete(`/queues/${name}`))
    await promisify(execFile)('/usr/bin/python3', ['celery_tasks.py', '100', '200', '300'], options)
    for (const body of [{ delay: '100ms' }, { requeue: false }]) {
      const { lease, properties } = await next()
      assert.deepEqual(properties.headers.timelimit, [600, 300])
      await gateway.post(`/leases/${lease.id}/nack`).send(body).expect(204)
    }
    await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}.dead`)).body.message_count, 1))
    assert.equal((await redriven(gateway, `${queue}.dead`)).moved, 1)
    const { output } = startWorker()
    await eventually(() => {
      for (const sum of [101, 201, 301]) assert.match(output(), new RegExp(`sum ${sum}`))
    }, START_TIMEOUT_MS)
  })
})
