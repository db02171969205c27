// Responses that come before their request has arrived whole reach clients that close the connection, or whose proxy does.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { startWithKeys } from '../support/access.js'
import { startNginx } from '../support/balancer.js'
import { freshFile } from '../support/files.js'
import { startGateway } from '../support/gateway.js'

const run = promisify(execFile)
const MiB = 1024 * 1024
const { gateway } = await startWithKeys()
const open = await startGateway({ MAX_MESSAGE_SIZE: '1MiB' })

const PYTHON = `
import sys, urllib.error, urllib.request
url, size, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for n in range(times):
    try:
        print(urllib.request.urlopen(urllib.request.Request(url, data=b'x' * size)).status)
    except urllib.error.HTTPError as error:
        print(error.code)
`
/** The statuses that Python's urllib gets, which closes each connection and sends the whole body before it reads. */
const withPython = async (url: string, bytes: number, times: number): Promise<string[]> =>
  (await run('python3', ['-c', PYTHON, url, String(bytes), String(times)])).stdout.trim().split('\n')

describe('early refusal', () => {
  it("reaches Python's urllib, for credentials, paths and sizes", async () => {
    const times = 3
    assert.deepEqual(await withPython(`${gateway.url}/queues/q/messages`, 5 * MiB, times), Array(times).fill('401'))
    assert.deepEqual(await withPython(`${open.url}/nowhere`, 5 * MiB, times), Array(times).fill('404'))
    assert.deepEqual(await withPython(`${open.url}/queues/q/messages`, 5 * MiB, times), Array(times).fill('413'))
  })

  it('reaches curl through nginx with its defaults, with bodies of 5 MiB and of 100 MiB', async () => {
    const body = freshFile('body', Buffer.alloc(5 * MiB))
    const large = freshFile('large', Buffer.alloc(100 * MiB))
    for (const [target, path, file, expected, times] of [
      [gateway, '/queues/q/messages', body, '401', 3],
      [open, '/queues/q/messages', body, '413', 3],
      [open, '/queues/q/messages', large, '413', 1],
    ] as const) {
      const nginx = await startNginx([Number(new URL(target.url).port)])
      for (let n = 0; n < times; n++) {
        const args = ['-s', '-o', '/dev/null', '-w', '%{http_code}', '--data-binary', `@${file}`, `${nginx}${path}`]
        assert.equal((await run('curl', args)).stdout, expected)
      }
    }
  })

  it('an upload that goes on and on after the refusal is cut off', { timeout: 30_000 }, async () => {
    const socket = connect({ port: Number(new URL(open.url).port), host: '127.0.0.1', allowHalfOpen: true })
    let response = ''
    let sent = 0
    socket.on('data', (chunk) => {
      response += chunk
    })
    socket.on('error', () => undefined)
    socket.write('POST /nowhere HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: 9999999999\r\n\r\n')
    const chunk = Buffer.alloc(64 * 1024)
    const write = () => {
      while (!socket.destroyed && sent < 1024 * MiB) {
        sent += chunk.length
        if (!socket.write(chunk)) return void socket.once('drain', write)
      }
    }
    write()
    await new Promise((resolve) => socket.once('close', resolve))
    assert.match(response, /^HTTP\/1.1 404 /)
    assert.ok(sent > 8 * MiB && sent < 512 * MiB, `${sent} bytes`)
  })
})
