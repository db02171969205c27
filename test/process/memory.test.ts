// The memory of an upload does not depend on its length, and an upload whose client does not read the response stops.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshQueue, startGateway } from '../support/gateway.js'
import { type GatewayProcess, readyGateway } from '../support/process.js'

const MiB = 1024 * 1024
const helper = await startGateway()

/** The peak resident memory of the process, in MiB. */
const peak = ({ child }: GatewayProcess): number =>
  Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]) / 1024

/** Sends NDJSON of that size while it reads the results, and resolves with the totals. */
async function upload(url: string, queue: string, mebibytes: number): Promise<{ published: number; failed: number }> {
  const outgoing = request(`${url}/queues/${queue}/messages/batch`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
  })
  let tail = ''
  const ended = once(outgoing, 'response').then(async ([response]) => {
    for await (const chunk of response) tail = (tail + chunk).slice(-1000)
  })
  const line = { payload: 'x'.repeat(16 * 1024 - 60), properties: { delivery_mode: 1 } }
  const piece = Buffer.from(`${JSON.stringify(line)}\n`.repeat(64))
  for (let n = 0; n < mebibytes; n++) if (!outgoing.write(piece)) await once(outgoing, 'drain')
  outgoing.end()
  await ended
  return JSON.parse(tail.trimEnd().split('\n').at(-1)!)
}

describe('memory of an upload', () => {
  it('an upload of 300 MiB takes no more memory than one of 30 MiB', { timeout: 120_000 }, async () => {
    // RabbitMQ drops the messages at once, so that the test does not fill its memory.
    const queue = await freshQueue(helper, { arguments: { 'x-max-length': 10 } })
    const gateway = await readyGateway({ AMQP_URL })
    assert.deepEqual(await upload(gateway.url, queue, 30), { published: 30 * 64, failed: 0 })
    const short = peak(gateway)
    assert.deepEqual(await upload(gateway.url, queue, 300), { published: 300 * 64, failed: 0 })
    const long = peak(gateway)
    assert.ok(long < short + 100, `${short} MiB after an upload of 30 MiB, ${long} MiB after 300 MiB`)
  })

  it('an upload whose client does not read the results stops at a limit', { timeout: 60_000 }, async () => {
    const queue = await freshQueue(helper, { arguments: { 'x-max-length': 10 } })
    const gateway = await readyGateway({ AMQP_URL })
    const outgoing = request(`${gateway.url}/queues/${queue}/messages/batch`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
    })
    outgoing.on('error', () => undefined)
    outgoing.on('response', (response) => response.pause().on('error', () => undefined))
    // Lines that are shorter than their results.
    const piece = Buffer.from('{"payload":1}\n'.repeat(10_000))
    let written = 0
    for (let stalled = false; !stalled; written += piece.length) {
      assert.ok(written < 200 * MiB, 'the upload does not stop')
      if (outgoing.write(piece)) continue
      const drained = once(outgoing, 'drain').then(() => false)
      stalled = await Promise.race([drained, new Promise<true>((resolve) => setTimeout(resolve, 3000, true))])
    }
    assert.ok(peak(gateway) < 300, `${peak(gateway)} MiB`)
    outgoing.destroy()
    await eventually(async () => assert.equal((await fetch(`${gateway.url}/health/ready`)).status, 200))
  })
})
