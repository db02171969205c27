// The docs pages in a real browser: Swagger UI, served by the gateway without other origins and tried out against RabbitMQ.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Locator } from 'playwright-core'
import { catalogue } from '../../src/problems.js'
import { openBrowser } from '../support/chromium.js'
import { openapi } from '../support/contract.js'
import { freshQueue, startGateway } from '../support/gateway.js'

const gateway = await startGateway()
const { page, requests, errors } = await openBrowser()

/** Expects that the page requested nothing from other origins and had no errors. */
function expectCleanPage(): void {
  const elsewhere = requests.filter(
    (url) => !url.startsWith(`${gateway.url}/`) && !url.startsWith('data:') && url !== 'about:blank',
  )
  assert.deepEqual(elsewhere, [])
  assert.deepEqual(errors.splice(0), [])
}

/** Opens the box of an operation and returns it; "Try it out" is on from the start. */
async function open(tag: string, operationId: string): Promise<Locator> {
  const box = page.locator(`#operations-${tag}-${operationId}`)
  await box.locator('.opblock-summary-control').click()
  await box.locator('button.execute').waitFor()
  return box
}

const parameter = (box: Locator, name: string): Locator => box.locator(`tr[data-param-name="${name}"]`)

/** Executes the operation and resolves with the response as the page shows it. */
async function execute(box: Locator): Promise<{ status: string; body: string }> {
  await box.locator('button.execute').click()
  const answer = box.locator('.live-responses-table tbody tr.response').first()
  await answer.waitFor()
  const status = await answer.locator('.response-col_status').innerText()
  const body = await answer.locator('.response-col_description .highlight-code pre').first().innerText()
  return { status: status.trim().split('\n')[0]!, body }
}

describe('the docs', () => {
  it('the root redirects to the docs', async () => {
    await page.goto(`${gateway.url}/`)
    assert.match(new URL(page.url()).pathname, /^\/docs/)
    await page.locator('.info .title').waitFor()
    assert.match(await page.locator('.info .title').innerText(), /rabbitmq-http-gateway/)
    expectCleanPage()
  })

  it('the docs show every operation', async () => {
    await page.goto(`${gateway.url}/docs`)
    await page.locator('.opblock').first().waitFor()
    const operations = Object.values(openapi.paths).flatMap((methods) => Object.keys(methods))
    assert.equal(await page.locator('.opblock').count(), operations.length)
    expectCleanPage()
  })

  it('a text can be published, received and acked in the docs', async () => {
    const queue = await freshQueue(gateway)
    const text = 'Grüße aus dem Browser: "1 & 2" <b>🐇</b>'
    await page.goto(`${gateway.url}/docs`)

    const publish = await open('messages', 'publishToQueue')
    await parameter(publish, 'queue').locator('input').fill(queue)
    await parameter(publish, 'amqp-type').locator('input').fill('greeting')
    await publish.locator('.opblock-section-request-body select').first().selectOption('text/plain')
    await publish.locator('.opblock-section-request-body textarea').fill(text)
    const published = await execute(publish)
    assert.equal(published.status, '201')
    assert.match(published.body, /"routed": true/)

    const receive = await open('messages', 'receive')
    await parameter(receive, 'queue').locator('input').fill(queue)
    const received = await execute(receive)
    assert.equal(received.status, '200')
    const [message] = (
      JSON.parse(received.body) as { messages: { payload: string; properties: object; lease: { id: string } }[] }
    ).messages
    assert.equal(message!.payload, text)
    assert.deepEqual(
      { ...message!.properties, message_id: '' },
      {
        content_type: 'text/plain',
        delivery_mode: 2,
        message_id: '',
        type: 'greeting',
      },
    )

    const ack = await open('leases', 'ack')
    await parameter(ack, 'id').locator('input').fill(message!.lease.id)
    await ack.locator('button.execute').click()
    await ack.locator('.live-responses-table .response-col_status', { hasText: '204' }).waitFor()
    assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 0)
    expectCleanPage()
  })

  it('JSON is published in the docs as it was entered', async () => {
    const queue = await freshQueue(gateway)
    await page.goto(`${gateway.url}/docs`)
    const publish = await open('messages', 'publishToQueue')
    await parameter(publish, 'queue').locator('input').fill(queue)
    await publish.locator('.opblock-section-request-body select').first().selectOption('application/json')
    await publish.locator('.opblock-section-request-body textarea').fill('{"order": 42}')
    assert.equal((await execute(publish)).status, '201')
    const { body } = await gateway.get(`/queues/${queue}/messages?ack=auto`).expect(200)
    assert.deepEqual(body.messages[0].payload, { order: 42 })
    expectCleanPage()
  })

  it('the docs show the problem of a failed request', async () => {
    await page.goto(`${gateway.url}/docs`)
    const look = await open('queues', 'getQueue')
    await parameter(look, 'queue').locator('input').fill('no such queue / at all')
    const { status, body } = await execute(look)
    assert.equal(status, '404')
    assert.equal((JSON.parse(body) as { code: string }).code, 'queue_not_found')
    // Browsers log a failed request as an error.
    errors.splice(0, errors.length, ...errors.filter((text) => !/status of 404/.test(text)))
    expectCleanPage()
  })

  it('the type of a problem links to the catalogue of all problems', async () => {
    const { body } = await gateway.get('/queues/no-such-queue').expect(404)
    await page.goto(new URL(body.type, gateway.url).href)
    const shown = await page.locator('tbody tr').evaluateAll((rows) => rows.map((row) => row.id))
    assert.deepEqual(shown, Object.keys(catalogue))
    assert.ok(await page.locator('#queue_not_found').isVisible())
    expectCleanPage()
  })
})
