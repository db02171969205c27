// The benchmark. Started by scripts/bench.mjs, which brings the broker.

import { readdirSync, readFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { Bench, type Broker } from './bench.js'
import type { Case } from './comparison.js'
import { type Options, parseOptions, usage } from './options.js'
import { type Circumstances, writeReport } from './report/files.js'
import { type Profile, profileTables } from './report/profile.js'
import { Progress } from './report/progress.js'
import { aimsTable, printed, tableOf } from './report/table.js'
import type { Result } from './result.js'
import { warmUp } from './scenarios/candidate.js'
import { cases, chosen } from './scenarios/index.js'

const options = readOptions()
if (options.help) {
  console.log(usage)
  process.exit()
}
const wanted = chosen(cases, options)
if (options.list) {
  for (const { name } of wanted) console.log(name)
  process.exit()
}
if (wanted.length === 0) fail('no case has such a name: see --list')
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130))

const broker: Broker = {
  amqpUrl: required('AMQP_URL'),
  managementUrl: required('RABBITMQ_MANAGEMENT_URL'),
  pid: Number(process.env['BENCH_BROKER_PID']) || undefined,
}
const circumstances = await learnCircumstances()
for (const [name, value] of Object.entries(circumstances)) console.log(`${name}: ${value}`)
console.log()

const progress = new Progress(wanted.length)
const bench = await Bench.start(options, broker, progress)
for (const { name, server } of bench.builds) {
  progress.detail(`warming up: ${name}`)
  await warmUp(bench, server)
}
const results: Result[] = []
for (const one of wanted) {
  progress.begin(one.name)
  const result = await tried(one)
  results.push(result)
  progress.clear()
  console.log(printed(tableOf(result)))
}
await bench.stop()

const aims = aimsTable(results)
if (aims.rows.length > 0) console.log(printed(aims))
if (options.profile) printProfile(options.profile)
if (options.report) console.log(`written: ${writeReport(options.report, results, circumstances).join(', ')}`)
if (results.some(({ kind }) => kind === 'failed')) process.exitCode = 1

async function tried(one: Case): Promise<Result> {
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
  if (latest === undefined) throw new Error(`there is no profile in ${folder}`)
  const profile = JSON.parse(readFileSync(join(folder, latest), 'utf8')) as Profile
  for (const table of profileTables(profile, bench.gateway.server.readyAt)) console.log(printed(table))
}

async function learnCircumstances(): Promise<Circumstances> {
  const { origin, username, password } = new URL(broker.managementUrl)
  const headers = { authorization: `Basic ${btoa(`${username}:${password}`)}` }
  const overview = (await (await fetch(`${origin}/api/overview`, { headers })).json()) as {
    rabbitmq_version: string
    erlang_version: string
  }
  return {
    machine: `${cpus().length} × ${cpus()[0]?.model ?? 'processor'}, ${Math.round(totalmem() / 1024 ** 3)} GiB, Linux ${release()}; broker, gateway and load share it`,
    broker: `RabbitMQ ${overview.rabbitmq_version}, Erlang ${overview.erlang_version}, one node`,
    node: process.version,
    messages:
      'durable queues, persistent, mandatory, confirmed; settles behind a barrier; the gateway as shipped, unless a case says otherwise',
    rounds: `${options.rounds} of ${options.seconds} s per contender, shuffled and interleaved; medians (least..most)`,
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
