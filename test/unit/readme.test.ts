// The documents are consistent: links lead to existing files and headings, commands exist, metrics are complete.

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

/** The text without code, in which a bracket is not a link. */
const prose = (file: string): string =>
  readFileSync(file, 'utf8')
    .replace(/^```[\s\S]*?^```$/gm, '')
    .replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]()]/g, ' '))

/** The anchors that GitHub makes of the headings of a page. */
const anchors = (file: string): string[] =>
  [...prose(file).matchAll(/^#+ +(.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replace(/\s/g, '-'),
  )

describe('documentation', () => {
  it('the main documents exist', () => {
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

  it('every link of a document leads to an existing file and heading', () => {
    let links = 0
    for (const page of pages) {
      for (const [, target] of prose(page).matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(target!)) continue
        const [path, anchor] = target!.split('#') as [string, string?]
        const file = path === '' ? page : join(dirname(page), path)
        assert.ok(existsSync(file), `${page} links to ${target}, which does not exist`)
        if (anchor !== undefined)
          assert.ok(anchors(file).includes(anchor), `${page} links to ${target}, a heading that does not exist`)
        links++
      }
    }
    assert.ok(links > 20, `${links} links`)
  })

  it('every npm command in a document exists in package.json', () => {
    let commands = 0
    for (const page of pages) {
      for (const [command, run, short] of readFileSync(page, 'utf8').matchAll(/\bnpm (?:run ([\w:-]+)|(test|start)\b)/g)) {
        assert.ok((run ?? short)! in scripts, `${page} says ${command}`)
        commands++
      }
    }
    assert.ok(commands > 5, `${commands} commands`)
  })

  it('docs/operations.md explains every metric and no other', async () => {
    const metrics = createMetrics()
    const none = () => 0
    metrics.observe({
      connections: () => [],
      nodes: () => [],
      leases: none,
      waiters: none,
      streams: none,
      redrives: none,
      quarantines: () => [],
      calls: none,
      channels: none,
      unconfirmedBytes: none,
      remembered: none,
      definitionsKnown: () => true,
      retryPolicies: none,
      logLinesDropped: () => 0,
      delayed: () => [],
    })
    createPushMetrics(metrics.registry, () => [])
    const names = metrics.registry.getMetricsAsArray().map(({ name }) => name)
    const documented = readFileSync('docs/operations.md', 'utf8').matchAll(/^\| `(gateway_\w+)` \|/gm)
    assert.deepEqual([...documented].map(([, name]) => name).sort(), names.filter((name) => name.startsWith('gateway_')).sort())
  })

  it('the list of decisions links to every decision', () => {
    const list = readFileSync('docs/decisions/README.md', 'utf8')
    for (const file of readdirSync('docs/decisions')) {
      if (file !== 'README.md') assert.ok(list.includes(`](${file})`), file)
    }
  })

  it('no document contains a path of the author’s machine', () => {
    for (const page of [...pages, '.env.example']) {
      assert.doesNotMatch(readFileSync(page, 'utf8'), /(?<![\w.])\/(?:root|home|work|tmp)\//, page)
    }
  })
})
