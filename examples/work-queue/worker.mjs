#!/usr/bin/env node
// A worker in Node.js (18 or later), without packages.
//
//   ./worker.mjs QUEUE
//
// It takes one task at a time, a JSON object, and calls work(). SIGTERM and Ctrl-C stop it after its current task.

import { setTimeout as sleep } from 'node:timers/promises'

const GATEWAY = process.env.GATEWAY ?? 'http://127.0.0.1:8080'
const LEASE = Number(process.env.LEASE ?? 30) // seconds

/** A task that will never succeed: it goes to the queue's dead-letter exchange. */
class Unworkable extends Error {}

/** Your work. If it resolves, the task is done. If it rejects, the task goes back for another try. */
async function work(task) {
  await sleep((task.seconds ?? 0) * 1000)
  console.log('done', JSON.stringify(task))
}

/** One request; repeated if the gateway says that this helps. */
async function call(method, path, body) {
  for (let attempt = 0; ; attempt++) {
    const response = await fetch(GATEWAY + path, {
      method,
      headers: body && { 'content-type': 'application/json' },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(60_000),
    })
    if (response.ok) return response.status === 204 ? undefined : response.json()
    const text = await response.text()
    if (![429, 503].includes(response.status) || attempt === 5) throw new Error(text)
    await sleep(Number(response.headers.get('retry-after') ?? 1) * 1000)
  }
}

/** The task in a message. JSON that was published without its content type, as `curl -d` does, is a string. */
function taskOf(payload) {
  let task = payload
  try {
    if (typeof payload === 'string') task = JSON.parse(payload)
  } catch {
    // refused below
  }
  if (typeof task !== 'object' || task === null) throw new Unworkable('not a JSON object')
  return task
}

async function handle({ payload, lease: { id } }) {
  const renewal = setInterval(
    () => call('POST', `/leases/${id}/extend`).catch((error) => console.error('not renewed:', error.message)),
    (LEASE / 3) * 1000,
  )
  let verdict = 'ack'
  let body
  try {
    await work(taskOf(payload))
  } catch (error) {
    verdict = 'nack'
    body = { requeue: !(error instanceof Unworkable) }
    console.error(body.requeue ? 'failed, for another try:' : 'rejected:', error.message)
    if (body.requeue) await sleep(1000) // otherwise the task is back at once, and keeps all workers busy
  } finally {
    clearInterval(renewal)
  }
  // 410: the lease ran out, and another worker has the task. A task may be done twice: make your work repeatable.
  await call('POST', `/leases/${id}/${verdict}`, body)
}

let stopping = false
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    stopping = true
  })
}

const [queue] = process.argv.slice(2)
while (!stopping) {
  try {
    const { messages } = await call('POST', `/queues/${encodeURIComponent(queue)}/messages/receive?wait=5s&lease=${LEASE}s`)
    for (const message of messages) await handle(message)
  } catch (error) {
    console.error(error.message, error.cause?.message ?? '') // no response, or a refusal
    await sleep(1000)
  }
}
