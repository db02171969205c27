// The arrows of the house: who may import whom, and that nobody runs in circles.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { describe, it } from 'node:test'

interface Import {
  from: string
  to: string
  typeOnly: boolean
}

const under = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => posix.join(folder, file))
const files = ['src', 'routes', 'openapi'].flatMap(under)
const imports = files.flatMap(importsOf)
const bench = under('bench')

function importsOf(from: string): Import[] {
  const source = readFileSync(from, 'utf8').replace(/^\s*\/\/.*$/gm, '')
  const found: Import[] = []
  // With verbatimModuleSyntax exactly the statements that begin so are left out of what runs.
  for (const [, typeOnly, to] of source.matchAll(/^(?:import|export)\b(\s+type\b)?[^'";]*?from\s+'([^']+)'/gm))
    found.push({ from, to: resolved(from, to!), typeOnly: typeOnly !== undefined })
  for (const [, to] of source.matchAll(/(?:^import\s+|\b(?:import|require|require\.resolve)\(\s*)'([^']+)'/gm))
    found.push({ from, to: resolved(from, to!), typeOnly: false })
  return found
}

/** The file of the project, or the package's name as it stands there. */
function resolved(from: string, to: string): string {
  return to.startsWith('.') ? posix.normalize(join(dirname(from), to)).replace(/\.js$/, '.ts') : to
}

const ours = (path: string): boolean => /^(src|routes|openapi)\//.test(path)
const described = ({ from, to }: Import): string => `${from} -> ${to}`
const violations = (from: RegExp, allowed: (to: string, found: Import) => boolean): string[] =>
  imports.filter((found) => from.test(found.from) && !allowed(found.to, found)).map(described)

/** Rooms by their depth: nobody imports what stands above, or beside where that is not allowed. */
const base = /^src\/((problems|config|units|log|metrics|certificates|watched-file|backoff|rest)\.ts$|config\/)/
const amqp = /^src\/amqp\//
const messages = /^src\/messages\//
const leases = /^src\/leases\//
const access = /^src\/access\//
const instances = /^src\/instances\//
const definitions = /^src\/definitions\//
const redrive = /^src\/redrive\//
const push = /^src\/push\//

describe('the arrows', () => {
  it('start from every file and end at one that is there', () => {
    assert.ok(files.length > 30, `${files.length} files`)
    assert.ok(imports.length > 100, `${imports.length} imports`)
    assert.deepEqual(imports.filter(({ to }) => ours(to) && !files.includes(to)).map(described), [])
  })

  it('leave the catalogue of problems, the units and the log nowhere, and the configuration only to the units', () => {
    assert.deepEqual(
      violations(/^src\/(problems|units|log)\.ts$/, (to) => !ours(to)),
      [],
    )
    assert.deepEqual(
      violations(/^src\/config(\.ts$|\/)/, (to) => !ours(to) || to === 'src/lib/units.ts' || to.startsWith('src/config/')),
      [],
    )
  })

  it('leave the certificates and the watch on files to the configuration alone', () => {
    assert.deepEqual(
      violations(/^src\/(certificates|watched-file)\.ts$/, (to) => !ours(to) || to === 'src/config/index.ts'),
      [],
    )
  })

  it('leave the metrics nowhere', () => {
    assert.deepEqual(
      violations(/^src\/metrics\.ts$/, (to) => !ours(to)),
      [],
    )
  })

  it('lead from the contract to the catalogue of problems and typebox alone', () => {
    assert.deepEqual(
      violations(/^openapi\//, (to) => to.startsWith('openapi/') || to === 'src/problems.ts' || to === 'typebox'),
      [],
    )
  })

  it('lead from the broker side to the base alone', () => {
    assert.deepEqual(
      violations(amqp, (to) => !ours(to) || amqp.test(to) || base.test(to)),
      [],
    )
  })

  it('lead from messages to the words of AMQP, not to what talks to the broker', () => {
    const words = ['src/amqp/wire/message.ts', 'src/amqp/wire/field-table.ts', 'src/amqp/wire/reserved.ts']
    assert.deepEqual(
      violations(messages, (to) => !ours(to) || messages.test(to) || base.test(to) || words.includes(to)),
      [],
    )
  })

  it('lead from leases to the broker side and the base, not to messages or HTTP', () => {
    assert.deepEqual(
      violations(leases, (to) => !ours(to) || leases.test(to) || amqp.test(to) || base.test(to)),
      [],
    )
  })

  it('lead from access to the broker side and the base, not to messages, leases or HTTP', () => {
    assert.deepEqual(
      violations(access, (to) => !ours(to) || access.test(to) || amqp.test(to) || base.test(to)),
      [],
    )
  })

  it('lead from the definitions to the broker side and the base', () => {
    assert.deepEqual(
      violations(definitions, (to) => !ours(to) || definitions.test(to) || amqp.test(to) || base.test(to)),
      [],
    )
  })

  it('lead from the way to other instances to the base alone', () => {
    assert.deepEqual(
      violations(instances, (to) => !ours(to) || instances.test(to) || base.test(to)),
      [],
    )
  })

  it('lead from push to leases, messages and definitions, not to access or HTTP', () => {
    const rooms = [push, leases, messages, definitions, amqp, base]
    assert.deepEqual(
      violations(push, (to) => !ours(to) || rooms.some((room) => room.test(to)) || to === 'src/delay/levels.ts'),
      [],
    )
  })

  it('lead from redriving to definitions, messages, access and the broker side', () => {
    const rooms = [redrive, definitions, messages, access, amqp, base]
    assert.deepEqual(
      violations(redrive, (to) => !ours(to) || rooms.some((room) => room.test(to))),
      [],
    )
  })

  it('lead to the HTTP client from the endpoints of subscriptions alone', () => {
    assert.deepEqual(imports.filter(({ from, to }) => to === 'undici' && from !== 'src/push/endpoint.ts').map(described), [])
  })

  it('lead to the routes from the app alone', () => {
    assert.deepEqual(
      imports
        .filter(({ from, to }) => to.startsWith('routes/') && !from.startsWith('routes/') && from !== 'src/app.ts')
        .map(described),
      [],
    )
  })

  it('lead from the routes to no plugin and not to the app', () => {
    assert.deepEqual(
      violations(/^routes\//, (to) => !/^src\/(plugins\/|app\.ts|main\.ts)/.test(to)),
      [],
    )
  })

  it('lead to the plugins and the app from where the process is put together', () => {
    assert.deepEqual(
      imports
        .filter(
          ({ from, to }) =>
            to.startsWith('src/plugins/') && !from.startsWith('src/plugins/') && !/^src\/(app|server)\.ts$/.test(from),
        )
        .map(described),
      [],
    )
    assert.deepEqual(imports.filter(({ from, to }) => to === 'src/app.ts' && from !== 'src/main.ts').map(described), [])
    assert.deepEqual(imports.filter(({ to }) => to === 'src/main.ts').map(described), [])
  })

  it('lead to amqplib from its one door', () => {
    const others = imports.filter(({ from, to }) => /^amqplib(\/|$)/.test(to) && from !== 'src/amqp/wire/amqplib.ts')
    assert.deepEqual(others.map(described), [])
    assert.ok(imports.some(({ from, to }) => to === 'amqplib' && from === 'src/amqp/wire/amqplib.ts'))
  })

  it('lead to the HTTP framework from the routes, the plugins and the app', () => {
    const others = imports.filter(
      ({ from, to }) => /fastify/.test(to) && !/^(routes\/|src\/plugins\/|src\/(app|server)\.ts$)/.test(from),
    )
    assert.deepEqual(others.map(described), [])
  })

  it('lead from the benchmark to nothing of the gateway, which it sees from outside alone, and from nowhere to it', () => {
    assert.ok(bench.length > 10)
    assert.deepEqual(
      bench
        .flatMap(importsOf)
        .filter(({ to }) => ours(to))
        .map(described),
      [],
    )
    assert.deepEqual(imports.filter(({ to }) => to.startsWith('bench/')).map(described), [])
  })

  it('never run in a circle', () => {
    const next = new Map(files.map((file) => [file, [] as string[]]))
    for (const { from, to, typeOnly } of imports) if (!typeOnly && ours(to)) next.get(from)?.push(to)
    const done = new Set<string>()
    const circles: string[] = []
    const visit = (file: string, path: string[]): void => {
      if (path.includes(file)) {
        circles.push([...path.slice(path.indexOf(file)), file].join(' -> '))
        return
      }
      if (done.has(file)) return
      for (const to of next.get(file) ?? []) visit(to, [...path, file])
      done.add(file)
    }
    for (const file of files) visit(file, [])
    assert.deepEqual(circles, [])
  })
})

describe('a file', () => {
  it('is a room: 300 lines at most, a test 400', () => {
    const tests = under('test')
    const lines = (file: string) => readFileSync(file, 'utf8').split('\n').length - 1
    const large = [...[...files, ...bench].filter((file) => lines(file) > 300), ...tests.filter((file) => lines(file) > 400)]
    assert.deepEqual(large, [])
  })
})
