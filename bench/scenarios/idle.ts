// Long polls that wait for nothing: what each holds of memory, and what all together use of a processor.

import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Bench } from '../bench.js'
import type { Case } from '../comparison.js'
import type { Figure, FiguresResult } from '../result.js'
import { shuffled, spread } from '../statistics.js'
import { Polls } from '../targets/polls.js'
import { memory, processorTime, type Server, startServer } from '../targets/server.js'

const QUEUES = 10
/** Opened and closed before, so that code is compiled and pools are filled when the count begins. */
const WARM_UP = 200
const IDLE_SECONDS = 3
const MAX_ROUNDS = 3
/** Of fewer the resident memory tells nothing: V8 takes, or gives back, more of it meanwhile than they need. */
const ENOUGH = 10_000

/** What the settings as shipped do not allow. */
const MANY = { MAX_WAITERS: '12000', AMQP_LEASE_CONNECTIONS: '6', MAX_CONNECTIONS: '13000' }

export const idleCases: Case[] = [idle(1000, { quick: true, env: {} }), idle(10_000, { quick: false, env: MANY })]

function idle(count: number, { quick, env }: { quick: boolean; env: Record<string, string> }): Case {
  const name = `${count.toLocaleString('en')} idle long polls`
  return { name, quick, run: (bench) => measure(bench, name, count, env) }
}

async function measure(bench: Bench, name: string, count: number, env: Record<string, string>): Promise<FiguresResult> {
  const queues = Array.from({ length: QUEUES }, () => bench.queues.name())
  for (const queue of queues) await bench.queues.renew(queue)
  const samples: Record<'gateway' | 'bare', Sample[]> = { gateway: [], bare: [] }
  const rounds = bench.options.quick ? 1 : Math.min(bench.options.rounds, MAX_ROUNDS)
  for (let round = 1; round <= rounds; round++) {
    for (const who of shuffled(['gateway', 'bare'] as const)) {
      bench.progress.detail(`round ${round} of ${rounds}: ${who}`)
      const server = who === 'gateway' ? await bench.startInstance(bench.gateway, env) : await startBare()
      try {
        samples[who].push(await sample(server, queues, count))
      } finally {
        await server.stop()
      }
    }
  }
  for (const queue of queues) await bench.queues.delete(queue)
  const settings = Object.entries(env).map(([setting, value]) => `${setting}=${value}`)
  const note = `each server fresh, its garbage collected${settings.length > 0 ? `; with ${settings.join(' ')}` : ''}`
  return { kind: 'figures', name, note, figures: figures(samples, count) }
}

interface Sample {
  /** Bytes, of resident memory and of what the program's objects and buffers hold. */
  perPoll: number
  heldPerPoll: number
  total: number
  /** Share of one core, in percent. */
  cpu: number
}

async function sample(server: Server, queues: string[], count: number): Promise<Sample> {
  const warmUp = new Polls(server, queues)
  await warmUp.reach(WARM_UP)
  await warmUp.close()
  await sleep(500)
  const heldBefore = await server.held()
  const before = memory([server.pid])
  const polls = new Polls(server, queues)
  try {
    await polls.reach(count)
    const used = processorTime([server.pid])
    await sleep(IDLE_SECONDS * 1000)
    const cpu = (processorTime([server.pid]) - used) / (IDLE_SECONDS * 1e6)
    const held = await server.held()
    const total = memory([server.pid])
    polls.check()
    return { perPoll: (total - before) / count, heldPerPoll: (held - heldBefore) / count, total, cpu: cpu * 100 }
  } finally {
    await polls.close()
  }
}

function figures({ gateway, bare }: Record<'gateway' | 'bare', Sample[]>, count: number): Figure[] {
  const kib = (bytes: number) => bytes / 1024
  const above = (key: 'perPoll' | 'heldPerPoll') => spread(gateway.map((one, round) => kib(one[key] - bare[round]![key])))
  const aim = { most: 20, goal: 3 }
  const resident: Figure = { label: 'resident memory of a poll, above a bare held request', unit: 'KiB', value: above('perPoll') }
  return [
    { ...resident, ...(count >= ENOUGH && aim) },
    { label: 'its objects and buffers alone', unit: 'KiB', value: above('heldPerPoll'), ...aim },
    { label: 'resident memory of a bare held request', unit: 'KiB', value: spread(bare.map(({ perPoll }) => kib(perPoll))) },
    { label: 'resident memory of the gateway', unit: 'MiB', value: spread(gateway.map(({ total }) => kib(total) / 1024)) },
    { label: 'processor, of one core', unit: '%', value: spread(gateway.map(({ cpu }) => cpu)) },
  ]
}

function startBare(): Promise<Server> {
  return startServer({ folder: '.', args: [join(import.meta.dirname, '..', 'targets', 'bare-server.js')], path: '/health/ready' })
}
