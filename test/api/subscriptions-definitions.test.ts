// Subscriptions as definitions: their validation, their representation, their secrets, and the rights on them.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { startWithKeys } from '../support/access.js'
import { publish, startPushing, startReceiver, subscribe, subscribed } from '../support/endpoint.js'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, type Gateway, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'

const [gateway, other] = (await startPushing(2)) as [Gateway, Gateway]
const SECRETS = ['MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'C2FVsBQIhrscChlQIMV+b5sSYspob7oD'].map((text) => `whsec_${text}`) as [
  string,
  string,
]
const queue = await freshQueue(gateway)
/** A paused definition, which delivers nothing. */
const idle = (more: object = {}) => ({ queue, url: 'https://endpoint.invalid/hook', paused: true, ...more })
const put = (name: string, body: object) => gateway.put(`/subscriptions/${name}`).send(body)

describe('managing subscriptions', () => {
  it('a subscription is created, shown, listed and deleted, at every instance within a second', async () => {
    const name = freshName('subscription')
    const made = await subscribe(gateway, name, idle())
    assert.match(String(made['secret']), /^whsec_/)
    const { secret: _, ...rest } = made
    assert.deepEqual(rest, {
      name,
      vhost: gateway.app.services.vhosts.defaultName,
      queue,
      url: 'https://endpoint.invalid/hook',
      secrets: 1,
      format: 'raw',
      headers: {},
      concurrency: 10,
      timeout: '15s',
      lease: '30s',
      retry: { max_attempts: 10, backoff: { initial: '1s', factor: 2, max: '10m', jitter: 0.2 } },
      give_up: 'pause',
      paused: true,
      state: 'paused',
      delivered: 0,
      failed: 0,
      in_flight: 0,
    })
    await eventually(async () => {
      const { body } = await other.get(`/subscriptions/${name}`).expect(200)
      assert.deepEqual(body, rest)
    }, 1000)
    const { body } = await other.get('/subscriptions').expect(200)
    assert.ok(body.subscriptions.some((one: { name: string }) => one.name === name))
    const vhost = encodeURIComponent(String(rest.vhost))
    await other.get(`/vhosts/${vhost}/subscriptions/${name}`).expect(200)
    await other.delete(`/subscriptions/${name}`).expect(204)
    await eventually(async () => {
      const gone = await gateway.get(`/subscriptions/${name}`).expect(404)
      assert.equal(gone.body.code, 'subscription_not_found')
    }, 1000)
    await other.delete(`/subscriptions/${name}`).expect(204)
    for (const verb of ['pause', 'resume', 'test'])
      assert.equal((await gateway.post(`/subscriptions/${name}/${verb}`).expect(404)).body.code, 'subscription_not_found')
  })

  it('a PUT of an existing subscription is answered with 200, and it stays paused unless paused is false', async () => {
    const name = freshName('subscription')
    await subscribe(gateway, name, idle())
    const { definitions } = gateway.app.services
    const revision = () => definitions.list('subscription').find(({ key }) => key.endsWith(name))!.revision
    const before = revision()
    const { paused: _, ...unsaid } = idle()
    const again = await put(name, unsaid).expect(200)
    assert.equal(again.body.paused, true)
    assert.equal(again.body.secret, undefined)
    assert.equal(revision(), before, 'an unchanged definition is not written')
    const changed = await put(name, idle({ concurrency: 3, timeout: 2, format: 'json' })).expect(200)
    assert.deepEqual([changed.body.concurrency, changed.body.timeout, changed.body.format], [3, '2s', 'json'])
    assert.ok(revision() > before)
    assert.equal((await put(name, idle({ paused: false })).expect(200)).body.paused, false)
    assert.equal((await gateway.post(`/subscriptions/${name}/pause`).expect(200)).body.state, 'paused')
  })

  it('a subscription to a missing queue, a stream or a queue of the gateway is refused', async () => {
    const stream = await freshQueue(gateway, { type: 'stream' })
    const missing = await put(freshName(), idle({ queue: freshName('nowhere') })).expect(404)
    assert.equal(missing.body.code, 'queue_not_found')
    assert.equal((await put(freshName(), idle({ queue: stream })).expect(409)).body.code, 'stream_queue')
    assert.equal((await put(freshName(), idle({ queue: 'gateway.definitions' })).expect(403)).body.code, 'access_refused')
  })

  const headers = (name: string, value = 'x') => ({ headers: { [name]: value } })
  const WRONG: Record<string, object[]> = {
    '/body/url': [
      ...['nonsense', 'ftp://example.com/', 'https://user:secret@example.com/', 'http://[::1]/', 'http://0xa000001/'],
      ...['http://169.254.169.254/latest/meta-data', 'http://[fd00:ec2::254]/', `https://example.com/${'x'.repeat(2100)}`],
    ].map((url) => ({ url })),
    '/body/secret': [
      { secret: 'geheim' },
      { secret: `whsec_${'A'.repeat(24)}` },
      { secret: [] },
      { secret: [...SECRETS, SECRETS[0]] },
    ],
    '/body/timeout': [{ timeout: '1ms' }, { timeout: '1h' }, { timeout: 'soon' }],
    '/body/lease': [{ lease: '1ms' }, { lease: '3h' }],
    '/body/concurrency': [{ concurrency: 0 }, { concurrency: 1001 }, { concurrency: 1.5 }],
    '/body/retry': [{ retry: { max_attempts: 0 } }, { retry: { backoff: { initial: '1ms' } } }, { retry: { tries: 3 } }],
    '/body/give_up': [{ give_up: 'drop' }],
    '/body/format': [{ format: 'xml' }],
    '/body/headers': [
      ...[
        'Host',
        'content-length',
        'Content-Type',
        'webhook-id',
        'lease-id',
        'Location',
        'transfer-encoding',
        'amqp-x',
        'ce-id',
        'bad name',
        'te',
      ].map((name) => headers(name)),
      ...['a\r\nb: c', '', ' x', 'ü', '********', 'x'.repeat(4097)].map((value) => headers('x-fine', value)),
      { headers: { 'X-A': '1', 'x-a': '2' } },
    ],
    '/body/queue': [{ queue: '' }, { queue: 'x'.repeat(256) }],
    '/body': [{ colour: 'red' }],
  }
  for (const [pointer, bodies] of Object.entries(WRONG)) {
    it(`a subscription with an invalid ${pointer} is refused without repeating a secret`, async () => {
      for (const body of bodies) {
        const answer = await put(freshName(), idle(body)).expect(400)
        assert.equal(answer.body.code, 'invalid_request', JSON.stringify(body))
        assert.ok(
          answer.body.errors[0].pointer.startsWith(pointer),
          `${answer.body.errors[0].pointer} ${JSON.stringify(body).slice(0, 80)}`,
        )
        assert.ok(!answer.text.includes('geheim') && !answer.text.includes('AAAA') && !answer.text.includes('secret@'))
      }
    })
  }
})

describe('secrets of subscriptions', () => {
  it('a subscription whose URL or queue changes gets a new secret, unless it is given one', async () => {
    const name = freshName('subscription')
    const { secret } = await subscribe(gateway, name, idle())
    const elsewhere = { url: 'https://endpoint.invalid/other' }
    const more = await freshQueue(gateway)
    assert.equal((await put(name, idle()).expect(200)).body.secret, undefined)
    const seen = new Set([secret])
    for (const change of [elsewhere, {}, { queue: more }, { ...elsewhere, queue: more }]) {
      const { body } = await put(name, idle(change)).expect(200)
      assert.match(body.secret, /^whsec_/)
      assert.ok(!seen.has(body.secret))
      assert.equal(body.secrets, 1)
      seen.add(body.secret)
    }
    const { body } = await put(name, idle({ secret: SECRETS[0] })).expect(200)
    assert.equal(body.secret, undefined)
  })

  it('values of headers are shown only for harmless names, and URLs without what may be a secret', async () => {
    const { name } = await subscribed(gateway, { paused: true })
    const headers = {
      'x-auth': 'geheim',
      'x-pass': 'geheim',
      'x-goog-iap-jwt-assertion': 'geheim',
      'X-A': 'geheim',
      'User-Agent': 'me',
    }
    for (const [url, shown] of [
      ['https://endpoint.invalid/hooks/orders/v2', 'https://endpoint.invalid/hooks/orders/v2'],
      ['https://endpoint.invalid', 'https://endpoint.invalid'],
      ['https://hooks.invalid/services/T00/B00/gEhEiM', 'https://hooks.invalid/services/********/********/********'],
      ['https://endpoint.invalid/hook?token=geheim&b', 'https://endpoint.invalid/hook?token=********&********'],
      ['https://endpoint.invalid/5f2c9a7be1/hook', 'https://endpoint.invalid/********/hook'],
      ['https://endpoint.invalid/averyveryverylongwordthatmaybeatoken', 'https://endpoint.invalid/********'],
      ['https://endpoint.invalid:8443/ge%68eim/#geheim', 'https://endpoint.invalid:8443/********/'],
    ]) {
      const { text, body } = await put(name, idle({ url, headers })).expect(200)
      assert.equal(body.url, shown)
      assert.ok(!/geheim/i.test(text), text)
      assert.deepEqual(Object.values(body.headers).sort(), [...new Array(4).fill('********'), 'me'])
      if (shown !== url && shown !== 'https://endpoint.invalid:8443/********/') {
        const masked = await put(name, idle({ url: shown })).expect(400)
        assert.equal(masked.body.errors[0].pointer, '/body/url')
      }
    }
  })

  it('during a rotation deliveries are signed with both secrets, and no secret is ever shown', async () => {
    const { receiver, queue, name } = await subscribed(gateway, {
      secret: SECRETS[0],
      headers: { 'x-api-key': 'geheim', 'x-a': 'b' },
    })
    const all = [
      (await gateway.get(`/subscriptions/${name}`).expect(200)).text,
      (await gateway.get('/subscriptions').expect(200)).text,
      (await gateway.post(`/subscriptions/${name}/resume`).expect(200)).text,
      (await gateway.get('/metrics').expect(200)).text,
    ].join('')
    assert.ok(!all.includes(SECRETS[0].slice(6)) && !all.includes('geheim'))
    const definition = { queue, url: receiver.url }
    for (const [secret, verified] of [
      [SECRETS[0], [true, false]],
      [
        [SECRETS[1], SECRETS[0]],
        [true, true],
      ],
      [undefined, [true, true]],
      [SECRETS[1], [false, true]],
    ] as const) {
      const { body } = await put(name, { ...definition, ...(secret && { secret }) }).expect(200)
      assert.equal(body.secret, undefined)
      assert.equal(body.secrets, verified.filter(Boolean).length)
      const count = receiver.got.length
      await eventually(() => {
        const at = other.app.services.definitions
          .list<{ secrets: string[] }>('subscription')
          .find(({ key }) => key.endsWith(name))!
        assert.equal(at.value.secrets.length, verified.filter(Boolean).length)
      })
      await publish(gateway, queue, 'x')
      const got = (await receiver.many(count + 1)).at(-1)!
      const verify = (by: string) => {
        try {
          new Webhook(by).verify(got.body, got.headers as Record<string, string>, { jsonParse: false })
          return true
        } catch {
          return false
        }
      }
      assert.deepEqual(SECRETS.map(verify), verified)
    }
  })
})

describe('rights on subscriptions', () => {
  it('a caller sees and changes only the subscriptions that they may configure', async () => {
    const { client, admin, gateway: guarded } = await startWithKeys()
    const own = freshName('queue')
    await admin.put(`/queues/${own}`).expect(201)
    guarded.cleanups.push(async () => admin.delete(`/queues/${own}`))
    const names = [freshName('mine'), freshName('other')] as const
    for (const name of names) {
      await admin
        .put(`/subscriptions/${name}`)
        .send(idle({ queue: own }))
        .expect(201)
      guarded.cleanups.push(async () => admin.delete(`/subscriptions/${name}`))
    }
    const mine = client(`configure:%2F/${names[0]}`)
    const { body } = await mine.get('/subscriptions').expect(200)
    assert.deepEqual(
      body.subscriptions.map(({ name }: { name: string }) => name),
      [names[0]],
    )
    await mine.get(`/subscriptions/${names[1]}`).expect(403)
    const refused = await mine
      .put(`/subscriptions/${names[0]}`)
      .send(idle({ queue: own }))
      .expect(403)
    assert.match(refused.body.detail, /read/)
    await mine.delete(`/subscriptions/${names[0]}`).expect(204)
  })

  it('subscriptions are refused with AUTH=broker', async () => {
    const user = freshName('user')
    await management(`users/${user}`, { method: 'PUT', body: JSON.stringify({ password: 'geheim', tags: '' }) })
    const guarded = await startGateway({ AUTH: 'broker' })
    guarded.cleanups.push(() => management(`users/${user}`, { method: 'DELETE' }))
    const permissions = JSON.stringify({ configure: '.*', write: '.*', read: '.*' })
    await management(`permissions/%2F/${user}`, { method: 'PUT', body: permissions })
    for (const answer of [
      guarded.get('/subscriptions'),
      guarded.put('/subscriptions/x').send(idle()),
      guarded.post('/subscriptions/x/test'),
    ]) {
      const { body } = await answer.auth(user, 'geheim').expect(403)
      assert.equal(body.code, 'access_refused')
    }
  })
})

describe('test deliveries', () => {
  it('a test delivery is signed and sent even if the subscription is paused, and its response or error is shown', async () => {
    const receiver = await startReceiver({ status: 418, body: 'short and stout' })
    const name = freshName('subscription')
    await subscribe(gateway, name, idle({ url: receiver.url, secret: SECRETS[0] }))
    const { body } = await gateway.post(`/subscriptions/${name}/test`).expect(200)
    assert.deepEqual([body.status, body.body, body.means], [418, 'short and stout', 'failed'])
    const [delivery] = receiver.got
    const sample = new Webhook(SECRETS[0]).verify(delivery!.body, delivery!.headers as Record<string, string>) as Record<
      string,
      unknown
    >
    assert.equal(sample['subscription'], name)
    await receiver.close()
    const failed = await other.post(`/subscriptions/${name}/test`).expect(200)
    assert.match(failed.body.error, /ECONNREFUSED/)
    assert.equal(failed.body.status, undefined)
  })
})
