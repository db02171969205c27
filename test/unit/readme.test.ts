// The documents lead somewhere: their links to files that exist and headings in them, their commands to scripts.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { createMetrics } from '../../src/metrics.js'
import { createPushMetrics } from '../../src/push/metrics.js'

const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }

const pages = ['.', 'docs', 'docs/decisions', 'examples']
  .filter((folder) => existsSync(folder))
  .flatMap((folder) =>
    readdirSync(folder)
      .filter((file) => file.endsWith('.md'))
      .map((file) => join(folder, file)),
  )

/** The text without its code, where a bracket is no link. */
const prose = (file: string): string =>
  readFileSync(file, 'utf8')
    .replace(/^```[\s\S]*?^```$/gm, '')
    .replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]()]/g, ' '))

/** The anchors that a forge makes of a page's headings. */
const anchors = (file: string): string[] =>
  [...prose(file).matchAll(/^#+ +(.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replace(/\s/g, '-'),
  )

describe('the documents', () => {
  it('are there', () => {
    for (const file of [
      'README.md',
      'CONTRIBUTING.md',
      'SECURITY.md',
      'CHANGELOG.md',
      'docs/api.md',
      'docs/architecture.md',
      'docs/operations.md',
      'docs/problems.md',
    ]) {
      assert.ok(pages.includes(file), file)
    }
    assert.match(readFileSync('LICENSE', 'utf8'), /Apache License\s+Version 2\.0/)
  })

  it('link to files that exist, and to headings that they have', () => {
    let links = 0
    for (const page of pages) {
      for (const [, target] of prose(page).matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(target!)) continue
        const [path, anchor] = target!.split('#') as [string, string?]
        const file = path === '' ? page : join(dirname(page), path)
        assert.ok(existsSync(file), `${page} links to ${target}, which is not there`)
        if (anchor !== undefined)
          assert.ok(anchors(file).includes(anchor), `${page} links to ${target}, and there is no such heading`)
        links++
      }
    }
    assert.ok(links > 20, `${links} links`)
  })

  it('name only commands that package.json has', () => {
    let commands = 0
    for (const page of pages) {
      for (const [command, run, short] of readFileSync(page, 'utf8').matchAll(/\bnpm (?:run ([\w:-]+)|(test|start)\b)/g)) {
        assert.ok((run ?? short)! in scripts, `${page} says ${command}`)
        commands++
      }
    }
    assert.ok(commands > 5, `${commands} commands`)
  })

  it('explain every metric, and no other', async () => {
    const metrics = createMetrics()
    const none = () => 0
    metrics.observe({
      connections: () => [],
      leases: none,
      waiters: none,
      streams: none,
      redrives: none,
      calls: none,
      channels: none,
      unconfirmedBytes: none,
      remembered: none,
      definitionsKnown: () => true,
      retryPolicies: none,
      delayed: () => [],
    })
    createPushMetrics(metrics.registry, () => [])
    const names = metrics.registry.getMetricsAsArray().map(({ name }) => name)
    const documented = readFileSync('docs/operations.md', 'utf8').matchAll(/^\| `(gateway_\w+)` \|/gm)
    assert.deepEqual([...documented].map(([, name]) => name).sort(), names.filter((name) => name.startsWith('gateway_')).sort())
  })

  it('name every decision in the list of decisions', () => {
    const list = readFileSync('docs/decisions/README.md', 'utf8')
    for (const file of readdirSync('docs/decisions')) {
      if (file !== 'README.md') assert.ok(list.includes(`](${file})`), file)
    }
  })

  it('say nothing of the machine they were written on', () => {
    for (const page of [...pages, '.env.example']) {
      assert.doesNotMatch(readFileSync(page, 'utf8'), /(?<![\w.])\/(?:root|home|work|tmp)\//, page)
    }
  })
})
