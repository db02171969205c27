// The example workers, as processes: every task is done once, an invalid one is rejected, a failed one is retried, and a worker
// that is stopped finishes its current task.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { eventually } from '../support/eventually.js'
import { type Program, runExample } from '../support/examples.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'

const gateway = await startGateway()
const folder = mkdtempSync(join(tmpdir(), 'examples-'))
after(() => rmSync(folder, { recursive: true }))

const run = (file: string, args: string[], input = ''): Program =>
  runExample(join('work-queue', file), args, { GATEWAY: gateway.url }, input)

/** A queue whose rejected tasks are dead-lettered to another one. */
async function queues(): Promise<{ queue: string; dead: string }> {
  const dead = await freshQueue(gateway)
  const args = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead }
  return { queue: await freshQueue(gateway, { arguments: args }), dead }
}

const count = async (queue: string): Promise<number> => (await gateway.get(`/queues/${queue}`)).body.message_count

const tasks = Array.from({ length: 20 }, (_, task) => JSON.stringify({ task }))
const numbersIn = (text: string): number[] =>
  [...text.matchAll(/^done \{"task": ?(\d+)\}$/gm)].map(([, task]) => Number(task)).sort((a, b) => a - b)

// The command exits with 65 for an input that it cannot process.
const COMMAND = ['sh', '-c', 'task=$(cat); case $task in {*) echo "done $task" ;; *) exit 65 ;; esac']

describe('the worker examples', () => {
  for (const [language, file, command] of [
    ['shell', 'worker.sh', COMMAND],
    ['Python', 'worker.py', []],
    ['Node', 'worker.mjs', []],
    ['PHP', 'worker.php', []],
  ] as const) {
    it(`the ${language} worker does every task once, rejects an invalid one, and stops cleanly on SIGTERM`, async () => {
      const { queue, dead } = await queues()
      const producer = run('produce.sh', [queue], `${tasks.slice(0, 10).join('\n')}\nno task\n${tasks.slice(10).join('\n')}\n`)
      const worker = run(file, [queue, ...command])
      assert.equal(await producer.exited, 0, producer.printed())
      await eventually(async () => {
        assert.equal(numbersIn(worker.printed()).length, tasks.length, worker.printed())
        assert.equal(await count(dead), 1)
      }, 20_000)
      assert.deepEqual(numbersIn(worker.printed()), [...tasks.keys()])
      worker.child.kill('SIGTERM')
      assert.equal(await worker.exited, 0, worker.printed())
      assert.equal(await count(queue), 0)
      // Everything was acked: no lease is open.
      assert.equal(gateway.app.services.leases.open, 0)
    })
  }
})

describe('a task that was published with curl -d alone', () => {
  for (const file of ['worker.py', 'worker.mjs', 'worker.php', 'worker.sh'])
    it(`is done by ${file}, although its content type is a form's`, async () => {
      const { queue, dead } = await queues()
      const url = `${gateway.url}/queues/${queue}/messages`
      const { stdout } = await promisify(execFile)('curl', ['-s', '-d', '{"task": 7}', url])
      assert.match(stdout, /"warning":"The body is JSON, but its content type is application\/x-www-form-urlencoded/)
      const worker = run(file, [queue, ...(file === 'worker.sh' ? COMMAND : [])])
      await eventually(() => assert.deepEqual(numbersIn(worker.printed()), [7]), 20_000)
      worker.child.kill('SIGTERM')
      assert.equal(await worker.exited, 0, worker.printed())
      assert.deepEqual([await count(queue), await count(dead)], [0, 0])
    })
})

describe('several example workers', () => {
  it('several workers share the tasks of a queue and do each once', async () => {
    const { queue } = await queues()
    const workers = [run('worker.sh', [queue, ...COMMAND]), run('worker.py', [queue]), run('worker.mjs', [queue])]
    // All of them wait before the first task comes, so that each gets one.
    await eventually(() => assert.equal(gateway.app.services.receiver.waiting, 3), 20_000)
    const slow = tasks.map((_, task) => JSON.stringify({ seconds: 0.05, task }))
    const producer = run('produce.sh', [queue], `${slow.join('\n')}\n`)
    assert.equal(await producer.exited, 0, producer.printed())
    const done = () =>
      workers.map(({ printed }) => [...printed().matchAll(/^done .*"task": ?(\d+)/gm)].map(([, task]) => Number(task)))
    await eventually(() => assert.equal(done().flat().length, tasks.length), 20_000)
    assert.deepEqual(
      done()
        .flat()
        .sort((a, b) => a - b),
      [...tasks.keys()],
    )
    assert.ok(done().filter((list) => list.length > 0).length > 1, JSON.stringify(done()))
  })
})

describe('failed tasks', () => {
  it('a failed task is requeued and done again', async () => {
    const { queue, dead } = await queues()
    const mark = join(folder, freshName('tried'))
    const command = ['sh', '-c', `cat; [ -e ${mark} ] || { touch ${mark}; exit 1; }`]
    await gateway.post(`/queues/${queue}/messages`).type('text/plain').send('again ').expect(201)
    const worker = run('worker.sh', [queue, ...command])
    await eventually(() => assert.equal(worker.printed(), 'again again '), 20_000)
    assert.ok(existsSync(mark))
    await eventually(async () => {
      assert.equal(await count(queue), 0)
      assert.equal(gateway.app.services.leases.open, 0)
    })
    assert.equal(await count(dead), 0)
  })
})

describe('stopping a worker', () => {
  it('a stopped worker finishes its current task', async () => {
    for (const [file, command] of [
      ['worker.py', []],
      ['worker.mjs', []],
      ['worker.php', []],
      ['worker.sh', ['sh', '-c', 'task=$(cat); sleep 1; echo "done $task"']],
    ] as const) {
      const { queue } = await queues()
      await gateway.post(`/queues/${queue}/messages`).send({ seconds: 1, task: 7 }).expect(201)
      const worker = run(file, [queue, ...command])
      await eventually(() => assert.equal(gateway.app.services.leases.open, 1), 20_000)
      worker.child.kill('SIGTERM')
      assert.equal(await worker.exited, 0, `${file}: ${worker.printed()}`)
      assert.match(worker.printed(), /^done .*"task": ?7/m, file)
      assert.equal(await count(queue), 0)
      assert.equal(gateway.app.services.leases.open, 0)
    }
  })
})
