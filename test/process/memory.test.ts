// What an upload costs does not depend on how long it is, and a client that doesn't read its answer stops itself.

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

/** The most memory that the process ever had, in MiB. */
const peak = ({ child }: GatewayProcess): number =>
  Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]) / 1024

/** Sends NDJSON of so many MiB, and resolves with the totals, reading results all the while. */
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

describe('an upload', () => {
  it('of 300 MiB takes no more memory than one of 30 MiB', { timeout: 120_000 }, async () => {
    // The messages are dropped as they come, so that it is not the broker's memory that is tried.
    const queue = await freshQueue(helper, { arguments: { 'x-max-length': 10 } })
    const gateway = await readyGateway({ AMQP_URL })
    assert.deepEqual(await upload(gateway.url, queue, 30), { published: 30 * 64, failed: 0 })
    const short = peak(gateway)
    assert.deepEqual(await upload(gateway.url, queue, 300), { published: 300 * 64, failed: 0 })
    const long = peak(gateway)
    assert.ok(long < short + 100, `${short} MiB after 30, ${long} MiB after 300`)
  })

  it('whose results nobody reads stops at a bound', { timeout: 60_000 }, async () => {
    const queue = await freshQueue(helper, { arguments: { 'x-max-length': 10 } })
    const gateway = await readyGateway({ AMQP_URL })
    const outgoing = request(`${gateway.url}/queues/${queue}/messages/batch`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
    })
    outgoing.on('error', () => undefined)
    outgoing.on('response', (response) => response.pause().on('error', () => undefined))
    // Short lines, whose results are longer than they are.
    const piece = Buffer.from('{"payload":1}\n'.repeat(10_000))
    let written = 0
    for (let stalled = false; !stalled; written += piece.length) {
      assert.ok(written < 200 * MiB, 'it never stops')
      if (outgoing.write(piece)) continue
      const drained = once(outgoing, 'drain').then(() => false)
      stalled = await Promise.race([drained, new Promise<true>((resolve) => setTimeout(resolve, 3000, true))])
    }
    assert.ok(peak(gateway) < 300, `${peak(gateway)} MiB`)
    outgoing.destroy()
    await eventually(async () => assert.equal((await fetch(`${gateway.url}/health/ready`)).status, 200))
  })
})
