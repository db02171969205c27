// The workflows of CI: pinned actions, few permissions, commands that exist, versions of Node.js that the project supports.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { parse } from 'yaml'

type Step = { uses?: string; run?: string }
type Workflow = {
  on: { schedule?: unknown[] }
  permissions: unknown
  jobs: Record<string, { steps: Step[]; 'timeout-minutes'?: number }>
}

const folder = join('.github', 'workflows')
const workflows = readdirSync(folder).map((file) => parse(readFileSync(join(folder, file), 'utf8')) as Workflow)
const steps = workflows.flatMap(({ jobs }) => Object.values(jobs).flatMap((job) => job.steps))

describe('the CI workflows', () => {
  it('every action is pinned by a full commit SHA', () => {
    const used = steps.flatMap(({ uses }) => uses ?? [])
    assert.ok(used.length > 0)
    assert.deepEqual(
      used.filter((name) => !/^[\w.-]+\/[\w./-]+@[0-9a-f]{40}$/.test(name)),
      [],
    )
  })

  it('every npm command is a script of package.json', () => {
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }
    const commands = steps.flatMap(({ run = '' }) => [...run.matchAll(/\bnpm (?:run )?([\w:]+)/g)].map(([, name = '']) => name))
    assert.ok(commands.includes('test'))
    assert.deepEqual(
      commands.filter((name) => !['ci', 'audit'].includes(name) && scripts[name] === undefined),
      [],
    )
  })

  it('no dependency runs a script when it is installed, and advisories about dependencies are looked up every week', () => {
    assert.match(readFileSync('.npmrc', 'utf8'), /^ignore-scripts=true$/m)
    assert.ok(steps.some(({ run = '' }) => run.startsWith('npm audit')))
    assert.ok(workflows.some(({ on }) => on.schedule?.length === 1))
  })

  it('every workflow may only read, and every job has a time limit', () => {
    for (const { permissions, jobs } of workflows) {
      assert.deepEqual(permissions, { contents: 'read' })
      for (const [name, job] of Object.entries(jobs)) assert.ok(job['timeout-minutes'], name)
    }
  })
})
