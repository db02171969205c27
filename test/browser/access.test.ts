// A real browser: pages of other origins, pages of a listed origin, and the Authorize button of the docs.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { connect, createServer as createRelay, type Socket } from 'node:net'
import { after, describe, it } from 'node:test'
import { startWithKeys } from '../support/access.js'
import { openBrowser } from '../support/chromium.js'
import { eventually } from '../support/eventually.js'
import { freshQueue, startGateway } from '../support/gateway.js'

/** Names of pages and of the gateway, all of them on loopback; plain HTTP on a name is no secure context for Chromium. */
const EVIL = 'evil.example'
const OWN_NAME = 'gateway.example'
const { page, errors } = await openBrowser(`--host-resolver-rules=MAP *.example 127.0.0.1`)

// Empty pages of another origin, in which the tests run their scripts.
const pages = createServer((_request, response) => {
  response.writeHead(200, { 'content-type': 'text/html', connection: 'close' })
  response.end('<!doctype html><title>page</title><link rel="icon" href="data:,"><iframe name="frame"></iframe>')
})
await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve))
after(() => pages.close())
const { port } = pages.address() as { port: number }

const named = await startGateway({
  AUTH: 'none',
  HOST: '0.0.0.0',
  ALLOWED_HOSTS: OWN_NAME,
  CORS_ORIGINS: `http://app.example:${port}`,
})
const queue = await freshQueue(named)
await named.post(`/queues/${queue}/messages`).send('mine').expect(201)

// Scripts for the page, as text, since the project has no DOM types.
const ATTACKS = `async (url) => {
  const attempt = (path, init) => fetch(url + path, init).catch(() => undefined)
  await attempt('', { method: 'POST', mode: 'no-cors', body: 'evil' })
  await attempt('?ack=auto', { mode: 'no-cors' })
  await attempt('', { method: 'POST', headers: { 'content-type': 'text/plain' }, body: 'evil' })
  const image = new Image()
  const loaded = new Promise((resolve) => { image.onload = image.onerror = resolve })
  image.src = url + '?ack=auto&max=2'
  await loaded
}`
const SUBMIT = `(url) => {
  const form = Object.assign(document.createElement('form'), { method: 'POST', action: url, target: 'frame', enctype: 'text/plain' })
  form.append(Object.assign(document.createElement('input'), { name: 'evil', value: '1' }))
  document.body.append(form)
  form.submit()
}`

describe('pages of other origins in a browser', () => {
  it('a page of another origin can neither publish to nor receive from a gateway without authentication', async () => {
    const gateway = await startGateway()
    const queue = await freshQueue(gateway)
    const messages = `${gateway.url}/queues/${queue}/messages`
    await gateway.post(`/queues/${queue}/messages`).send('mine').expect(201)
    for (const origin of [`http://127.0.0.1:${port}`, `http://localhost:${port}`]) {
      await page.goto(origin)
      await page.evaluate(`(${ATTACKS})('${messages}')`)
      const form = page.waitForResponse((response) => response.url() === messages && response.frame() !== page.mainFrame())
      await page.evaluate(`(${SUBMIT})('${messages}')`)
      assert.equal((await form).status(), 403)
    }
    // The browser hides most responses from the page, so the metrics of the gateway count them.
    const { text } = await gateway.get('/metrics').expect(200)
    const refused = [...text.matchAll(/_count\{.*route="\/queues\/:queue\/messages",status="403"\} (\d+)/g)]
    assert.equal(
      refused.reduce((sum, [, count]) => sum + Number(count), 0),
      10,
    )
    const { body } = await gateway.get(`/queues/${queue}/messages?max=10&ack=requeue`).expect(200)
    assert.deepEqual(
      body.messages.map(({ payload }: { payload: string }) => payload),
      ['mine'],
    )
    await page.goto('about:blank')
    errors.splice(0)
  })

  it('a page of a listed origin with a key can publish, receive, ack and read the headers', async () => {
    const { gateway, file, admin, clientOf } = await startWithKeys({ CORS_ORIGINS: `http://127.0.0.1:${port}` })
    const key = file.add(['write:*/*', 'read:*/*'])
    clientOf(key)
    const queue = `page.${port}`
    await admin.put(`/queues/${queue}`).expect(201)
    gateway.cleanups.push(async () => admin.delete(`/queues/${queue}`))
    await page.goto(`http://127.0.0.1:${port}`)
    const seen = await page.evaluate(
      async ([url, key]) => {
        const headers = { authorization: `Bearer ${key}` }
        const posted = await fetch(url!, { method: 'POST', headers: { ...headers, 'amqp-header-a': 'b' }, body: 'hello' })
        const got = await fetch(`${url}?format=raw`, { headers })
        const lease = got.headers.get('lease-id')
        const acked = await fetch(`${new URL(url!).origin}/leases/${lease}/ack`, { method: 'POST', headers })
        return [posted.status, await got.text(), got.headers.get('amqp-header-a'), acked.status]
      },
      [`${gateway.url}/queues/${queue}/messages`, key],
    )
    assert.deepEqual(seen, [201, 'hello', 'b', 204])
    assert.deepEqual(errors.splice(0), [])
  })
})

/** Opens a page of another site, with links and images to a path of the gateway, and waits until it has tried all of them. */
const LURE = `async (url) => {
  const tried = []
  for (const src of [url, url + '&max=2']) {
    const image = document.body.appendChild(new Image())
    tried.push(new Promise((resolve) => { image.onload = image.onerror = resolve }))
    image.src = src
  }
  const frame = document.body.appendChild(document.createElement('iframe'))
  tried.push(new Promise((resolve) => { frame.onload = resolve }))
  frame.src = url
  tried.push(fetch(url, { mode: 'no-cors', headers: { 'accept-language': '*' } }).catch(() => undefined))
  tried.push(fetch(url, { mode: 'no-cors', referrerPolicy: 'no-referrer' }).catch(() => undefined))
  const source = new EventSource(url.replace(/messages.*/, 'stream?ack=auto'))
  tried.push(new Promise((resolve) => { source.onerror = () => { source.close(); resolve() } }))
  await Promise.all(tried)
}`

/** Reads an event of a stream, and gives its data; undefined if the browser gives up. */
const LISTEN = `(url) => new Promise((resolve) => {
  const source = new EventSource(url)
  const end = (data) => { source.close(); resolve(data) }
  source.onmessage = ({ data }) => end(data)
  source.onerror = () => source.readyState === EventSource.CLOSED && end()
})`

describe('a gateway with a name, over plain HTTP', () => {
  const own = `http://${OWN_NAME}:${new URL(named.url).port}`
  const messages = `/queues/${queue}/messages`
  const payloads = async () =>
    (await named.get(`${messages}?max=10&ack=requeue`).expect(200)).body.messages.map(
      ({ payload }: { payload: string }) => payload,
    )

  it('a page whose name was pointed at the gateway gets nothing but refusals', async () => {
    // What a new address in DNS does, this does behind the same address.
    let target = port
    const open = new Set<Socket>()
    const relay = createRelay((incoming) => {
      const outgoing = connect(target, '127.0.0.1')
      for (const socket of [incoming, outgoing]) open.add(socket.on('error', () => undefined))
      incoming.pipe(outgoing).pipe(incoming)
    })
    await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve))
    after(() => relay.close())
    const address = relay.address()
    await page.goto(`http://${EVIL}:${typeof address === 'object' && address ? address.port : 0}`)
    target = Number(new URL(named.url).port)
    // The browser may have connected ahead.
    for (const socket of open) socket.destroy()
    // The page has the origin of the gateway now, as far as the browser knows.
    const statuses = await page.evaluate(`(async (path) => {
      const attempt = async (init, query = '') => (await fetch(path + query, init)).status
      return [await attempt({}, '?ack=auto'), await attempt({ method: 'POST', body: 'evil' }), await attempt({ method: 'DELETE' })]
    })('${messages}')`)
    assert.deepEqual(statuses, [403, 403, 403])
    assert.deepEqual(await payloads(), ['mine'])
    assert.equal((await page.goto(`${own.replace(OWN_NAME, EVIL)}${messages}?ack=auto`))?.status(), 403)
  })

  it('images, frames, scripts and streams of another site take nothing', async () => {
    await page.goto(`http://${EVIL}:${port}`)
    await page.evaluate(`(${LURE})('${own}${messages}?ack=auto')`)
    assert.deepEqual(await payloads(), ['mine'])
  })

  it('a link that a page opens, a form and a typed address take nothing', async () => {
    await page.goto(`http://${EVIL}:${port}`)
    const visit = page.waitForResponse((response) => response.url().startsWith(own))
    await page.evaluate(`location.href = '${own}${messages}?ack=auto'`)
    assert.equal((await visit).status(), 403)
    await page.waitForURL(`${own}/**`)
    await page.goto(`http://${EVIL}:${port}`)
    const form = page.waitForResponse((response) => response.url().startsWith(own) && response.frame() !== page.mainFrame())
    await page.evaluate(`(${SUBMIT})('${own}${messages}')`)
    assert.equal((await form).status(), 403)
    assert.equal((await page.goto(`${own}${messages}?ack=auto`))?.status(), 403)
    assert.deepEqual(await payloads(), ['mine'])
  })

  it("the gateway's own page and a page of a listed origin receive, by fetch and by EventSource", async () => {
    for (const place of [`${own}/docs/`, `http://app.example:${port}`]) {
      await page.goto(place)
      const looked = await page.evaluate(`fetch('${own}${messages}?ack=requeue').then(({ status }) => status)`)
      assert.equal(looked, 200, place)
      const data = await page.evaluate(`(${LISTEN})('${own}/queues/${queue}/stream')`)
      assert.equal(JSON.parse(String(data)).payload, 'mine', place)
    }
    await eventually(async () => assert.deepEqual(await payloads(), ['mine']))
    await page.goto('about:blank')
    errors.splice(0)
  })
})

describe('the Authorize button of the docs', () => {
  it('the docs send the key that was entered under Authorize', async () => {
    const { gateway, file, clientOf } = await startWithKeys()
    const key = file.add(['read:%2F/nowhere'])
    clientOf(key)
    await page.goto(`${gateway.url}/docs`)
    const box = page.locator('#operations-queues-getQueue')
    const executeAndReadStatus = async (): Promise<string> => {
      await box.locator('button.execute').click()
      const status = box.locator('.live-responses-table tbody tr.response .response-col_status').first()
      await status.waitFor()
      return (await status.innerText()).trim().split('\n')[0]!
    }
    await box.locator('.opblock-summary-control').click()
    await box.locator('tr[data-param-name="queue"] input').fill('nowhere')
    assert.equal(await executeAndReadStatus(), '401')
    await page.locator('.scheme-container button.authorize').click()
    const dialog = page.locator('.dialog-ux')
    await dialog.locator('#auth-bearer-value').fill(key)
    await dialog
      .locator('.auth-container', { has: page.locator('#auth-bearer-value') })
      .locator('button.authorize')
      .click()
    await dialog.locator('button.btn-done').first().click()
    await box.locator('button.btn-clear').click()
    assert.equal(await executeAndReadStatus(), '404')
    errors.splice(0, errors.length, ...errors.filter((text) => !/status of 40[14]/.test(text)))
    assert.deepEqual(errors, [])
  })
})
