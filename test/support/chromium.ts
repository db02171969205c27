// The system's Chromium with an empty profile, and a record of the requests and errors of its pages.

import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { chromium, type Page } from 'playwright-core'

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
]
FLAGS.push('--disable-component-update', '--disable-sync')

export interface Browser {
  page: Page
  /** Every URL that a page requested. */
  requests: string[]
  /** Console errors, violations of the content security policy and uncaught errors. */
  errors: string[]
}

/**
 * Starts Chromium, or the browser that CHROMIUM names, with more flags. It is closed after the tests.
 * @throws Error if it is not installed
 */
export async function openBrowser(...flags: string[]): Promise<Browser> {
  const executablePath = process.env['CHROMIUM'] ?? PLACES.find(existsSync)
  if (!executablePath) throw new Error('Chromium is not installed: npm test installs it')
  const profile = mkdtempSync(join(tmpdir(), 'gateway-chromium-'))
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    args: [...FLAGS, ...flags],
    viewport: { width: 1280, height: 1600 },
  })
  after(async () => {
    await context.close()
    rmSync(profile, { recursive: true, force: true })
  })
  context.setDefaultTimeout(15_000)
  const browser: Browser = { page: context.pages()[0] ?? (await context.newPage()), requests: [], errors: [] }
  context.on('request', (request) => browser.requests.push(request.url()))
  context.on('console', (message) => {
    if (message.type() === 'error' || /content security policy/i.test(message.text())) browser.errors.push(message.text())
  })
  context.on('weberror', (error) => browser.errors.push(String(error.error())))
  return browser
}
