// The other examples: a bulk load, workers that answer calls, and a page that tails a queue.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { openBrowser } from '../support/chromium.js'
import { eventually } from '../support/eventually.js'
import { runExample } from '../support/examples.js'
import { AMQP_URL, freshName, freshQueue, startGateway } from '../support/gateway.js'

const gateway = await startGateway()
const GATEWAY = gateway.url
const folder = mkdtempSync(join(tmpdir(), 'examples-'))
after(() => rmSync(folder, { recursive: true }))
const count = async (queue: string): Promise<number> => (await gateway.get(`/queues/${queue}`)).body.message_count

describe('the bulk-load example', () => {
  const load = (queue: string, lines: string[]) => {
    const file = join(folder, 'tasks.ndjson')
    writeFileSync(file, `${lines.join('\n')}\n`)
    return runExample('bulk-load/bulk-load.sh', [queue, file], { GATEWAY })
  }
  const tasks = (length: number) => Array.from({ length }, (_, task) => JSON.stringify({ payload: { task } }))

  it('the bulk load publishes every line of a file', async () => {
    const queue = await freshQueue(gateway)
    const program = load(queue, tasks(20_000))
    assert.equal(await program.exited, 0, program.printed())
    assert.deepEqual(JSON.parse(program.printed()), { published: 20_000, failed: 0 })
    assert.equal(await count(queue), 20_000)
  })

  it('the bulk load prints the lines that failed and exits with 1', async () => {
    const queue = await freshQueue(gateway)
    const program = load(queue, [...tasks(10), 'nonsense', ...tasks(10)])
    assert.equal(await program.exited, 1)
    const [failed, totals] = program.printed().trim().split('\n')
    assert.equal(JSON.parse(failed!).index, 10)
    assert.deepEqual(JSON.parse(totals!), { published: 20, failed: 1 })
    assert.equal(await count(queue), 20)
  })

  it('the bulk load prints the problem of a refused upload and exits with 1', async () => {
    const program = load(freshName(), tasks(10))
    assert.equal(await program.exited, 1)
    assert.match(program.printed(), /queue_not_found/)
  })
})

describe('the RPC worker examples', () => {
  const call = async (queue: string, body: string) =>
    (await gateway.post(`/queues/${queue}/rpc`).type('text/plain').send(body).expect(200)).text

  it('the pika worker gives each caller its own reply', async () => {
    const queue = await freshQueue(gateway)
    const worker = runExample('rpc/worker.py', [queue], { AMQP_URL, PATH: `/usr/bin:${process.env['PATH']}` })
    await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}`)).body.consumer_count, 1, worker.printed()))
    const answers = await Promise.all(['10', '90', 'x', '1'].map((n) => call(queue, n)))
    assert.deepEqual(answers, ['55', '2880067194370816120', 'not a number', '1'])
  })

  it('the shell worker runs its command for each call and stops on SIGTERM', async () => {
    const queue = await freshQueue(gateway)
    const worker = runExample('rpc/worker.sh', [queue, 'tr', '[:lower:]', '[:upper:]'], { GATEWAY })
    assert.deepEqual(await Promise.all([call(queue, 'hello'), call(queue, 'two words'), call(queue, 'a')]), [
      'HELLO',
      'TWO WORDS',
      'A',
    ])
    worker.child.kill('SIGTERM')
    assert.equal(await worker.exited, 0, worker.printed())
    assert.equal(await count(queue), 0)
    assert.equal(gateway.app.services.leases.open, 0)
  })
})

describe('the live-tail example', () => {
  it('the live-tail page shows messages as they arrive and the end of the stream', async () => {
    // Like a reverse proxy in front of both.
    const page = readFileSync('examples/live-tail/index.html')
    const server = createServer((incoming, outgoing) => {
      if (incoming.url!.startsWith('/tail/')) return outgoing.setHeader('content-type', 'text/html').end(page)
      const { url, method, headers } = incoming
      const passed = request(GATEWAY + url, { method: method!, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode!, answer.headers)
        answer.pipe(outgoing)
      })
      outgoing.once('close', () => passed.destroy())
      return incoming.pipe(passed)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    after(() => {
      server.closeAllConnections()
      server.close()
    })
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const browser = await openBrowser()
    const queue = await freshQueue(gateway, { type: 'stream' })
    await browser.page.goto(`${origin}/tail/?gateway=${origin}&queue=${queue}`)
    await browser.page.getByText(`Connected to ${queue}.`).waitFor()
    for (const text of ['first', '<b>second</b>']) {
      await gateway.post(`/queues/${queue}/messages`).type('text/plain').send(text).expect(201)
    }
    await gateway.post(`/queues/${queue}/messages`).send({ third: 3 }).expect(201)
    await eventually(async () => {
      const items = await browser.page.locator('li').allInnerTexts()
      assert.deepEqual(
        items.map((item) =>
          item
            .replace(/^.* t\d/, 't')
            .split(' ')
            .slice(1)
            .join(' '),
        ),
        ['{"third":3}', '<b>second</b>', 'first'],
      )
    })
    await gateway.delete(`/queues/${queue}`).expect(204)
    await browser.page.getByText('Ended: ').waitFor()
    assert.deepEqual(
      browser.errors.filter((error) => !error.includes('favicon') && !error.includes('404')),
      [],
    )
  })
})
