// What the import rules of .dependency-cruiser.cjs cannot say: the size of files, what stands directly in src/, and that each
// of those rules can fail.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { after, describe, it } from 'node:test'

const MAX_LINES = 325
const MAX_TEST_LINES = 400

const filesUnder = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.(ts|mjs)$/.test(file))
    .map((file) => join(folder, file))

describe('the files of the project', () => {
  const lines = (file: string) => readFileSync(file, 'utf8').split('\n').length - 1
  const longer = (folders: string[], limit: number) =>
    folders
      .flatMap(filesUnder)
      .filter((file) => lines(file) > limit)
      .map((file) => `${file}: ${lines(file)} lines`)

  it(`a source file has at most ${MAX_LINES} lines`, () => {
    assert.ok(filesUnder('src').length > 50)
    assert.deepEqual(longer(['src', 'routes', 'openapi', 'bench', 'scripts'], MAX_LINES), [])
  })

  it(`a test file has at most ${MAX_TEST_LINES} lines`, () => {
    assert.deepEqual(longer(['test'], MAX_TEST_LINES), [])
  })

  it('directly in src/ are only the files that put the process together, the error class and the metrics', () => {
    const files = readdirSync('src', { withFileTypes: true }).filter((entry) => entry.isFile())
    assert.deepEqual(files.map(({ name }) => name).sort(), [
      'app.ts',
      'cluster.ts',
      'main.ts',
      'metrics.ts',
      'problems.ts',
      'server.ts',
      'services.ts',
      'shutdown.ts',
    ])
  })
})

/** An import that each rule forbids: the importing file, then what it imports. */
const FORBIDDEN: Record<string, [from: string, to: string]> = {
  'no-circles': ['src/lib/circle.ts', 'src/lib/circle-back.ts'],
  'no-unresolved': ['src/lib/lost.ts', 'no-such-package'],
  'contract-stands-alone': ['openapi/contract.ts', 'src/problems.ts'],
  'contract-needs-only-typebox': ['openapi/packages.ts', 'pino'],
  'routes-below-the-process': ['routes/route.ts', 'src/plugins/plugin.ts'],
  'routes-only-from-app': ['src/services.ts', 'routes/route.ts'],
  'plugins-only-from-the-process': ['src/services.ts', 'src/plugins/plugin.ts'],
  'app-only-from-main': ['src/server.ts', 'src/app.ts'],
  'main-from-nowhere': ['src/cluster.ts', 'src/main.ts'],
  'folder-lib': ['src/lib/a.ts', 'src/config/a.ts'],
  'folder-config': ['src/config/a.ts', 'src/problems.ts'],
  'folder-amqp': ['src/amqp/vhost.ts', 'src/leases/a.ts'],
  'folder-messages': ['src/messages/a.ts', 'src/amqp/wire/connection.ts'],
  'folder-access': ['src/access/a.ts', 'src/leases/a.ts'],
  'folder-instances': ['src/instances/a.ts', 'src/amqp/vhost.ts'],
  'folder-definitions': ['src/definitions/a.ts', 'src/messages/a.ts'],
  'folder-delay': ['src/delay/levels.ts', 'src/definitions/a.ts'],
  'folder-retry': ['src/retry/a.ts', 'src/leases/a.ts'],
  'retry-without-broker': ['src/retry/b.ts', 'src/amqp/vhost.ts'],
  'folder-leases': ['src/leases/a.ts', 'src/messages/a.ts'],
  'folder-receive': ['src/receive/a.ts', 'src/messages/a.ts'],
  'folder-push': ['src/push/a.ts', 'src/access/a.ts'],
  'folder-redrive': ['src/redrive/a.ts', 'src/leases/a.ts'],
  'folder-publish': ['src/publish/a.ts', 'src/receive/a.ts'],
  'base-stands-alone': ['src/problems.ts', 'src/amqp/vhost.ts'],
  'wire-below-publish-and-consume': ['src/amqp/wire/connection.ts', 'src/amqp/consume/delivery.ts'],
  'publish-beside-consume': ['src/amqp/publish/publisher.ts', 'src/amqp/consume/delivery.ts'],
  'consume-beside-publish': ['src/amqp/consume/receive.ts', 'src/amqp/publish/publisher.ts'],
  'amqplib-in-one-file': ['src/amqp/wire/message.ts', 'amqplib'],
  'undici-only-in-bench': ['src/push/request.ts', 'undici'],
  'fastify-at-the-edge': ['src/receive/b.ts', 'fastify'],
  'bench-from-outside': ['bench/bench.ts', 'src/app.ts'],
  'nobody-needs-bench': ['src/services.ts', 'bench/load.ts'],
  'tests-stay-out': ['src/receive/c.ts', 'test/support.ts'],
}

describe('the import rules', () => {
  const config = createRequire(import.meta.url)(resolve('.dependency-cruiser.cjs')) as { forbidden: { name: string }[] }
  const dir = mkdtempSync(join(tmpdir(), 'gateway-layout-'))
  after(() => rmSync(dir, { recursive: true }))
  for (const file of ['.dependency-cruiser.cjs', 'tsconfig.json', 'package.json']) cpSync(file, join(dir, file))
  symlinkSync(resolve('node_modules'), join(dir, 'node_modules'))

  /** Writes the files into an empty project, and resolves with each rule that they break and the file that breaks it. */
  async function brokenRules(files: Record<string, string>): Promise<{ rule: string; from: string }[]> {
    for (const folder of ['src', 'routes', 'openapi', 'bench', 'test']) {
      rmSync(join(dir, folder), { recursive: true, force: true })
      mkdirSync(join(dir, folder))
    }
    for (const [file, text] of Object.entries(files)) {
      mkdirSync(dirname(join(dir, file)), { recursive: true })
      writeFileSync(join(dir, file), text)
    }
    const program = resolve('node_modules/dependency-cruiser/bin/dependency-cruise.mjs')
    const args = [program, '--output-type', 'json', '--config', '.dependency-cruiser.cjs']
    const output = await new Promise<string>((done) => {
      execFile(process.execPath, [...args, 'src', 'routes', 'openapi', 'bench'], { cwd: dir }, (_, stdout) => done(stdout))
    })
    const { summary } = JSON.parse(output) as { summary: { violations: { from: string; rule: { name: string } }[] } }
    return summary.violations.map(({ from, rule }) => ({ rule: rule.name, from }))
  }

  /** A module that imports what is given; type-only imports have to be caught as well, except where a rule allows them. */
  const moduleText = (from: string, targets: string[], keyword = 'import type') => {
    const up = '../'.repeat(from.split('/').length - 1)
    const specifier = (to: string) => (to.includes('/') ? up + to.replace(/\.ts$/, '.js') : to)
    return `${targets.map((to, index) => `${keyword} * as i${index} from '${specifier(to)}'\n`).join('')}export type Own = string\n`
  }

  it('each forbidden import is found', async () => {
    assert.deepEqual(Object.keys(FORBIDDEN).sort(), config.forbidden.map(({ name }) => name).sort())
    const targets = new Map<string, string[]>()
    for (const [from, to] of Object.values(FORBIDDEN)) {
      targets.set(from, [...(targets.get(from) ?? []), to])
      if (to.includes('/') && !targets.has(to)) targets.set(to, [])
    }
    targets.set('src/lib/circle-back.ts', ['src/lib/circle.ts'])
    const files = [...targets].map(([from, to]) => [
      from,
      moduleText(from, to, from === 'src/retry/b.ts' ? 'import' : 'import type'),
    ])
    const broken = await brokenRules(Object.fromEntries(files))
    const missed = Object.entries(FORBIDDEN).filter(
      ([name, ends]) => !broken.some(({ rule, from }) => rule === name && ends.includes(from)), // a circle begins at either end
    )
    assert.deepEqual(missed, [])
  })

  it('allowed imports are no violation', async () => {
    const allowed: Record<string, string[]> = {
      'openapi/problems.ts': ['typebox'],
      'src/lib/a.ts': [],
      'src/problems.ts': ['openapi/problems.ts'],
      'src/amqp/wire/amqplib.ts': ['amqplib', 'src/lib/a.ts'],
      'src/amqp/consume/receive.ts': ['src/amqp/wire/amqplib.ts', 'src/problems.ts'],
      'src/retry/a.ts': ['src/amqp/consume/receive.ts'],
      'src/leases/a.ts': ['src/retry/a.ts', 'src/amqp/consume/receive.ts'],
      'src/push/endpoint.ts': ['src/leases/a.ts'],
      'routes/route.ts': ['fastify', 'src/leases/a.ts', 'src/push/endpoint.ts', 'openapi/problems.ts'],
      'src/app.ts': ['fastify', 'routes/route.ts'],
      'src/main.ts': ['src/app.ts'],
      'bench/bench.ts': ['fastify'],
    }
    assert.deepEqual(
      await brokenRules(Object.fromEntries(Object.entries(allowed).map(([file, to]) => [file, moduleText(file, to)]))),
      [],
    )
  })
})
