// Idle long polls: the memory of each, and the processor time of all together.

import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Bench } from '../bench.js'
import type { Case } from '../comparison.js'
import type { Figure, FiguresResult } from '../result.js'
import { shuffled, spread } from '../statistics.js'
import { LongPolls } from '../targets/polls.js'
import { memory, processorTime, type Server, startServer } from '../targets/server.js'

const QUEUES = 10
/** Opened and closed before the measurement, so that code is compiled and pools are filled. */
const WARM_UP = 200
const IDLE_SECONDS = 3
const MAX_ROUNDS = 3
/** With fewer polls the resident memory means nothing: V8 takes or returns more of it at the same time than they need. */
const MIN_POLLS_FOR_RESIDENT = 10_000

/** Settings for more polls than the defaults allow. */
const MANY = { MAX_WAITERS: '12000', AMQP_LEASE_CONNECTIONS: '6', MAX_CONNECTIONS: '13000' }

/** 1000 idle long polls with default settings, and 10,000 with raised limits. */
export const idleCases: Case[] = [idle(1000, { quick: true, env: {} }), idle(10_000, { quick: false, env: MANY })]

function idle(count: number, { quick, env }: { quick: boolean; env: Record<string, string> }): Case {
  const name = `${count.toLocaleString('en')} idle long polls`
  return { name, quick, run: (bench) => measure(bench, name, count, env) }
}

async function measure(bench: Bench, name: string, count: number, env: Record<string, string>): Promise<FiguresResult> {
  const queues = Array.from({ length: QUEUES }, () => bench.queues.nextName())
  for (const queue of queues) await bench.queues.recreate(queue)
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
  const note = `fresh servers, after a garbage collection${settings.length > 0 ? `; with ${settings.join(' ')}` : ''}`
  return { kind: 'figures', name, note, figures: figures(samples, count) }
}

interface Sample {
  /** Bytes of resident memory. */
  perPoll: number
  /** Bytes of objects and buffers, after a garbage collection. */
  heldPerPoll: number
  /** Bytes of resident memory of the whole process. */
  total: number
  /** Percent of one core. */
  cpu: number
}

async function sample(server: Server, queues: string[], count: number): Promise<Sample> {
  const warmUp = new LongPolls(server, queues)
  await warmUp.growTo(WARM_UP)
  await warmUp.close()
  await sleep(500)
  const heldBefore = await server.heldBytes()
  const before = memory([server.pid])
  const polls = new LongPolls(server, queues)
  try {
    await polls.growTo(count)
    const used = processorTime([server.pid])
    await sleep(IDLE_SECONDS * 1000)
    const cpu = (processorTime([server.pid]) - used) / (IDLE_SECONDS * 1e6)
    const held = await server.heldBytes()
    const total = memory([server.pid])
    polls.throwIfFailed()
    return { perPoll: (total - before) / count, heldPerPoll: (held - heldBefore) / count, total, cpu: cpu * 100 }
  } finally {
    await polls.close()
  }
}

function figures({ gateway, bare }: Record<'gateway' | 'bare', Sample[]>, count: number): Figure[] {
  const kib = (bytes: number) => bytes / 1024
  const above = (key: 'perPoll' | 'heldPerPoll') => spread(gateway.map((one, round) => kib(one[key] - bare[round]![key])))
  const aim = { limit: 20, goal: 3 }
  const resident: Figure = {
    label: 'resident memory of a poll, above that of a bare held request',
    unit: 'KiB',
    value: above('perPoll'),
  }
  return [
    { ...resident, ...(count >= MIN_POLLS_FOR_RESIDENT && aim) },
    {
      label: 'objects and buffers of a poll, above those of a bare held request',
      unit: 'KiB',
      value: above('heldPerPoll'),
      ...aim,
    },
    { label: 'resident memory of a bare held request', unit: 'KiB', value: spread(bare.map(({ perPoll }) => kib(perPoll))) },
    { label: 'resident memory of the gateway', unit: 'MiB', value: spread(gateway.map(({ total }) => kib(total) / 1024)) },
    { label: 'processor time, of one core', unit: '%', value: spread(gateway.map(({ cpu }) => cpu)) },
  ]
}

function startBare(): Promise<Server> {
  return startServer({ folder: '.', args: [join(import.meta.dirname, '..', 'targets', 'bare-server.js')], path: '/health/ready' })
}
