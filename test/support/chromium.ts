// A real Chromium, Debian's, with nothing in it and nobody to call, and a record of all that its pages did.

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
  /** Every URL that a page asked for. */
  requests: string[]
  /** Errors on the console, violations of the content security policy among them, and uncaught ones. */
  errors: string[]
}

/** Starts the browser; it is closed after the tests of the file. CHROMIUM names another one than the system's. */
export async function openBrowser(): Promise<Browser> {
  const executablePath = process.env['CHROMIUM'] ?? PLACES.find(existsSync)
  if (!executablePath) throw new Error('there is no Chromium: npm test installs it')
  const profile = mkdtempSync(join(tmpdir(), 'gateway-chromium-'))
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    args: FLAGS,
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
