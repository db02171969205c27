// curl, as people use it in a shell.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshQueue, startGateway } from '../support/gateway.js'

const gateway = await startGateway()
const folder = mkdtempSync(join(tmpdir(), 'curl-'))
after(() => rmSync(folder, { recursive: true }))

function curl(...args: string[]) {
  const child = spawn('curl', ['-sS', ...args])
  let text = ''
  child.stdout.on('data', (chunk) => {
    text += chunk
  })
  child.stderr.on('data', (chunk) => {
    text += chunk
  })
  after(() => child.kill())
  return { child, text: () => text, exited: new Promise<number | null>((resolve) => child.once('exit', resolve)) }
}

describe('curl', () => {
  it('curl -N shows each message as it arrives, and its unsettled messages go back when it ends', async () => {
    const queue = await freshQueue(gateway)
    const events = curl('-N', `${gateway.url}/queues/${queue}/stream`)
    for (const word of ['one', 'two', 'three']) {
      await gateway.post(`/queues/${queue}/messages`).type('text/plain').send(word).expect(201)
      await eventually(() => assert.match(events.text(), new RegExp(`^data: .*"${word}"`, 'm')))
    }
    events.child.kill()
    await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 3))
    const lines = curl('-N', '-H', 'accept: application/x-ndjson', `${gateway.url}/queues/${queue}/stream?ack=auto`)
    await eventually(() => assert.equal(lines.text().trim().split('\n').length, 3))
  })

  it('curl publishes an NDJSON file with --data-binary and with -T', async () => {
    const queue = await freshQueue(gateway)
    const file = join(folder, 'tasks.ndjson')
    writeFileSync(file, Array.from({ length: 5000 }, (_, n) => `{"payload": {"task": ${n}}}\n`).join(''))
    const target = `${gateway.url}/queues/${queue}/messages/batch`
    const type = ['-H', 'content-type: application/x-ndjson']
    for (const how of [
      ['--data-binary', `@${file}`],
      ['-X', 'POST', '-T', file],
    ]) {
      const upload = curl(...type, ...how, target)
      assert.equal(await upload.exited, 0, upload.text())
      assert.deepEqual(JSON.parse(upload.text().trim().split('\n').at(-1)!), { published: 5000, failed: 0 })
    }
    assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 10_000)
  })
})
