// A real browser: what a stranger's page gets it to do, what a page of a named origin may, and the Authorize button of the docs.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { after, describe, it } from 'node:test'
import { startWithKeys } from '../support/access.js'
import { openBrowser } from '../support/chromium.js'
import { freshQueue, startGateway } from '../support/gateway.js'

const { page, errors } = await openBrowser()

// Pages of another origin: empty, and what they do is said by the test.
const pages = createServer((_request, response) => {
  response.writeHead(200, { 'content-type': 'text/html' })
  response.end('<!doctype html><title>page</title><link rel="icon" href="data:,"><iframe name="frame"></iframe>')
})
await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve))
after(() => pages.close())
const { port } = pages.address() as { port: number }

// What runs in the page, as text: the DOM's types are none of the project's.
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

describe('a page of another origin in a real browser', () => {
  it('neither publishes nor receives, whatever it tries, where nobody is asked for a key', async () => {
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
    // The browser keeps most answers from the page, so it is the gateway that says what it answered.
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

  it('does everything with a key where its origin is named, and reads the headers too', async () => {
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

describe('the Authorize button', () => {
  it('has the docs send the key that was typed in', async () => {
    const { gateway, file, clientOf } = await startWithKeys()
    const key = file.add(['read:%2F/nowhere'])
    clientOf(key)
    await page.goto(`${gateway.url}/docs`)
    const box = page.locator('#operations-queues-getQueue')
    const look = async (): Promise<string> => {
      await box.locator('button.execute').click()
      const status = box.locator('.live-responses-table tbody tr.response .response-col_status').first()
      await status.waitFor()
      return (await status.innerText()).trim().split('\n')[0]!
    }
    await box.locator('.opblock-summary-control').click()
    await box.locator('tr[data-param-name="queue"] input').fill('nowhere')
    assert.equal(await look(), '401')
    await page.locator('.scheme-container button.authorize').click()
    const dialog = page.locator('.dialog-ux')
    await dialog.locator('#auth-bearer-value').fill(key)
    await dialog
      .locator('.auth-container', { has: page.locator('#auth-bearer-value') })
      .locator('button.authorize')
      .click()
    await dialog.locator('button.btn-done').first().click()
    await box.locator('button.btn-clear').click()
    assert.equal(await look(), '404')
    errors.splice(0, errors.length, ...errors.filter((text) => !/status of 40[14]/.test(text)))
    assert.deepEqual(errors, [])
  })
})
