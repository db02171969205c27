// The entry point of the benchmark. scripts/bench.mjs starts it with a broker.

import { readdirSync, readFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { Bench, type Broker } from './bench.js'
import type { Case } from './comparison.js'
import { type Options, parseOptions, usage } from './options.js'
import { type Environment, writeReport } from './report/files.js'
import { type Profile, profileTables } from './report/profile.js'
import { Progress } from './report/progress.js'
import { aimsTable, formatTable, tableOf } from './report/table.js'
import type { Result } from './result.js'
import { warmUp } from './scenarios/candidate.js'
import { cases, selectCases } from './scenarios/index.js'

const options = readOptions()
if (options.help) {
  console.log(usage)
  process.exit()
}
const selected = selectCases(cases, options)
if (options.list) {
  for (const { name } of selected) console.log(name)
  process.exit()
}
if (selected.length === 0) fail('no case matches: --list prints their names')
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130))

const broker: Broker = {
  amqpUrl: required('AMQP_URL'),
  managementUrl: required('RABBITMQ_MANAGEMENT_URL'),
  pid: Number(process.env['BENCH_BROKER_PID']) || undefined,
}
const environment = await readEnvironment()
for (const [name, value] of Object.entries(environment)) console.log(`${name}: ${value}`)
console.log()

const progress = new Progress(selected.length)
const bench = await Bench.start(options, broker, progress)
for (const { name, server } of bench.builds) {
  progress.detail(`warming up: ${name}`)
  await warmUp(bench, server)
}
const results: Result[] = []
for (const one of selected) {
  progress.begin(one.name)
  const result = await runCase(one)
  results.push(result)
  progress.clear()
  console.log(formatTable(tableOf(result)))
}
await bench.stop()

const aims = aimsTable(results)
if (aims.rows.length > 0) console.log(formatTable(aims))
if (options.profile) printProfile(options.profile)
if (options.report) console.log(`written: ${writeReport(options.report, results, environment).join(', ')}`)
if (results.some(({ kind }) => kind === 'failed')) process.exitCode = 1

async function runCase(one: Case): Promise<Result> {
  try {
    return await one.run(bench)
  } catch (error) {
    return { kind: 'failed', name: one.name, reason: (error as Error).message }
  }
}

function printProfile(folder: string): void {
  const [latest] = readdirSync(folder)
    .filter((file) => file.endsWith('.cpuprofile'))
    .sort()
    .reverse()
  if (latest === undefined) throw new Error(`no profile was written to ${folder}`)
  const profile = JSON.parse(readFileSync(join(folder, latest), 'utf8')) as Profile
  for (const table of profileTables(profile, bench.gateway.server.readyAt)) console.log(formatTable(table))
}

async function readEnvironment(): Promise<Environment> {
  const { origin, username, password } = new URL(broker.managementUrl)
  const headers = { authorization: `Basic ${btoa(`${username}:${password}`)}` }
  const overview = (await (await fetch(`${origin}/api/overview`, { headers })).json()) as {
    rabbitmq_version: string
    erlang_version: string
  }
  return {
    machine: `${cpus().length} × ${cpus()[0]?.model ?? 'processor'}, ${Math.round(totalmem() / 1024 ** 3)} GiB, Linux ${release()}; shared by broker, gateway and load`,
    broker: `RabbitMQ ${overview.rabbitmq_version}, Erlang ${overview.erlang_version}, one node`,
    node: process.version,
    messages:
      'durable queues; persistent, mandatory and confirmed publishes; settles wait for the broker; default settings unless noted',
    rounds: `${options.rounds} of ${options.seconds} s per candidate, shuffled and interleaved; medians (min..max)`,
    at: new Date().toISOString(),
  }
}

function readOptions(): Options {
  try {
    return parseOptions(process.argv.slice(2))
  } catch (error) {
    return fail(`${(error as Error).message}\n\n${usage}`)
  }
}

function required(name: string): string {
  return process.env[name] ?? fail(`${name} is not set: run this with npm run bench`)
}

function fail(text: string): never {
  console.error(text)
  process.exit(2)
}
