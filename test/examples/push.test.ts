// The example endpoints of subscriptions: each accepts the deliveries of the gateway and refuses forged ones.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { after, describe, it } from 'node:test'
import { freePort } from '../../scripts/broker.mjs'
import { signatureHeaders } from '../../src/push/signature.js'
import { isEmpty, publish, startPushing, subscribe } from '../support/endpoint.js'
import { eventually } from '../support/eventually.js'
import { runExample } from '../support/examples.js'
import { freshName, freshQueue, type Gateway } from '../support/gateway.js'

const [gateway] = (await startPushing()) as [Gateway]
const PATH = `/usr/bin:${process.env['PATH']}`

/** The built-in web server of PHP. */
function runPhp(secret: string, port: number) {
  const child = spawn('php', ['-S', `127.0.0.1:${port}`, 'examples/push/receiver.php'], { env: { PATH, SECRET: secret } })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk))
  after(() => child.kill('SIGKILL'))
  return { printed: () => text }
}

const RECEIVERS = {
  Node: (secret: string, port: number) => runExample('push/receiver.mjs', [`${port}`], { SECRET: secret }),
  Python: (secret: string, port: number) => runExample('push/receiver.py', [`${port}`], { SECRET: secret, PATH }),
  PHP: runPhp,
}

for (const [language, run] of Object.entries(RECEIVERS)) {
  describe(`the push receiver in ${language}`, () => {
    it(`the ${language} receiver accepts deliveries signed with either of two secrets and refuses forged ones`, async () => {
      const queue = await freshQueue(gateway, { type: 'quorum' })
      const name = freshName('subscription')
      const port = await freePort()
      const url = `http://127.0.0.1:${port}/`
      const made = await subscribe(gateway, name, { queue, url, paused: true })
      const secret = String(made['secret'])
      const program = run(secret, port)
      await eventually(async () => assert.equal((await fetch(url, { method: 'POST', body: 'x' })).status, 401), 20_000)
      await gateway.post(`/subscriptions/${name}/resume`).expect(200)
      const id = await publish(gateway, queue, '{"grüße": 1}', { 'content-type': 'application/json' })
      await isEmpty(gateway, queue)
      await eventually(() => assert.ok(program.printed().includes(`${id} application/json {"grüße": 1}`), program.printed()))

      const definition = { queue, url, secret: [`whsec_${Buffer.alloc(32, 7).toString('base64')}`, secret] }
      await gateway.put(`/subscriptions/${name}`).send(definition).expect(200)
      const second = await publish(gateway, queue, 'rotated')
      await isEmpty(gateway, queue)
      await eventually(() => assert.ok(program.printed().includes(second)))

      const post = async (headers: Record<string, string>, body = 'forged') =>
        (await fetch(url, { method: 'POST', headers, body })).status
      const body = Buffer.from('forged')
      assert.equal(await post(signatureHeaders([secret], 'forged', Date.now(), body)), 204, 'a correct signature is accepted')
      assert.equal(await post(signatureHeaders([secret], 'forged', Date.now(), body), 'changed'), 401)
      assert.equal(await post(signatureHeaders([secret], 'forged', Date.now() - 400_000, body)), 401)
      assert.equal(await post({ ...signatureHeaders([secret], 'forged', Date.now(), body), 'webhook-id': 'other' }), 401)
      assert.equal(
        await post(signatureHeaders([`whsec_${Buffer.alloc(32).toString('base64')}`], 'forged', Date.now(), body)),
        401,
      )
      assert.equal(await post({ ...signatureHeaders([secret], 'forged', Date.now(), body), 'webhook-signature': 'v1,' }), 401)
    })
  })
}
