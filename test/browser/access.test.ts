// A real browser: pages of other origins, pages of a listed origin, and the Authorize button of the docs.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { after, describe, it } from 'node:test'
import { startWithKeys } from '../support/access.js'
import { openBrowser } from '../support/chromium.js'
import { freshQueue, startGateway } from '../support/gateway.js'

const { page, errors } = await openBrowser()

// Empty pages of another origin, in which the tests run their scripts.
const pages = createServer((_request, response) => {
  response.writeHead(200, { 'content-type': 'text/html' })
  response.end('<!doctype html><title>page</title><link rel="icon" href="data:,"><iframe name="frame"></iframe>')
})
await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve))
after(() => pages.close())
const { port } = pages.address() as { port: number }

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
