#!/usr/bin/env node
// An endpoint for a subscription, in Node.js without packages.
//
//   SECRET=whsec_… ./receiver.mjs [PORT]
//
// It refuses requests that are not signed with the secret, according to Standard Webhooks 1.0. If the work fails, it responds
// with 500, and the gateway delivers the message again later.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

const key = Buffer.from((process.env.SECRET ?? '').replace(/^whsec_/, ''), 'base64')
if (key.length < 24) throw new Error('SECRET is not set to a secret like whsec_…')
const port = Number(process.argv[2] ?? 8090)

/** How old a signature may be, or how far ahead of this clock, in seconds. */
const TOLERANCE = 300

/** Your work. If it returns, the message is done. If it throws, the message comes again. An id may come twice. */
async function work(id, body, headers) {
  console.log(`${id} ${headers['content-type'] ?? ''} ${body}`)
}

/** Whether the sender knows the secret, and signed exactly this body recently. */
function isSigned(headers, body) {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures } = headers
  if (!id || !/^\d+$/.test(timestamp ?? '') || !signatures) return false
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE) return false
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest()
  return signatures.split(' ').some((signature) => {
    const given = signature.startsWith('v1,') ? Buffer.from(signature.slice(3), 'base64') : Buffer.alloc(0)
    return given.length === expected.length && timingSafeEqual(given, expected)
  })
}

const server = createServer(async (request, response) => {
  try {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const body = Buffer.concat(chunks)
    if (!isSigned(request.headers, body)) {
      response.writeHead(401).end()
      return
    }
    await work(request.headers['webhook-id'], body, request.headers)
    response.writeHead(204).end()
  } catch (error) {
    console.error(error)
    if (!response.headersSent) response.writeHead(500)
    response.end()
  }
})
server.listen(port, '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${server.address().port}/`))
