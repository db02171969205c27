// Summarizes V8's CPU profiles (https://chromedevtools.github.io/devtools-protocol/tot/Profiler/#type-Profile): the time by
// part of the program and by function.

import type { Table } from './table.js'

/** The members of V8's profile that are read here. */
export interface Profile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[]
  samples: number[]
  /** Microseconds since the previous sample; for the first one, since the start. */
  timeDeltas: number[]
  /** Microseconds of the system's monotonic clock. */
  startTime: number
}

const PARTS: [string, RegExp][] = [
  ['this project', /\/dist\/(src|routes|openapi)\//],
  ['amqplib', /\/node_modules\/amqplib\//],
  [
    'fastify',
    /\/node_modules\/(fastify|find-my-way|avvio|fast-json-stringify|ajv|@fastify|reusify|light-my-request|process-warning)/,
  ],
  ['metrics', /\/node_modules\/prom-client\//],
  ['log', /\/node_modules\/(pino|sonic-boom)/],
  ['other packages', /\/node_modules\//],
  ['node: http', /^node:(_http|internal\/http|http)/],
  ['node: streams and sockets', /^node:(net|internal\/stream|stream|internal\/net)/],
  ['node: events, timers, promises', /^node:(events|internal\/(timers|process|async_hooks|priority_queue))/],
  ['node: buffers', /^node:(buffer|internal\/buffer)/],
  ['node: the rest', /^node:/],
]

/** The part of the program that a frame belongs to. A frame without a URL is V8 itself or native code called from JavaScript. */
export function partOf({ functionName, url }: Profile['nodes'][number]['callFrame']): string {
  if (url === '') {
    if (functionName === '(idle)') return 'idle'
    if (functionName === '(garbage collector)') return 'garbage collection'
    if (functionName === '(program)') return 'native code: event loop, http parser, syscalls'
    return `native code: ${functionName}`
  }
  return PARTS.find(([, pattern]) => pattern.test(url))?.[0] ?? 'other'
}

/**
 * Two tables of self time, by part and by function, as percentages of the time that was not idle.
 * @param since microseconds of the monotonic clock; samples before it are left out, such as the start of the program
 * @param top the number of functions to list
 */
export function profileTables({ nodes, samples, timeDeltas, startTime }: Profile, since: number, top = 40): Table[] {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]))
  const parts = new Map<string, number>()
  const functions = new Map<string, number>()
  let busy = 0
  let at = startTime
  for (const [n, id] of samples.entries()) {
    const frame = frames.get(id)!
    const time = timeDeltas[n]!
    const part = partOf(frame)
    at += time
    if (at < since || part === 'idle') continue
    busy += time
    parts.set(part, (parts.get(part) ?? 0) + time)
    const place = frame.url === '' ? '' : ` ${frame.url.replace(/^.*\/(dist|node_modules)\//, '')}:${frame.lineNumber + 1}`
    const name = `${frame.functionName || '(anonymous)'}${place}`
    functions.set(name, (functions.get(name) ?? 0) + time)
  }
  const rows = (shares: Map<string, number>, limit: number) =>
    [...shares]
      .sort(([, a], [, b]) => b - a)
      .slice(0, limit)
      .map(([name, time]) => [name, `${((100 * time) / busy).toFixed(1)} %`])
  return [
    { title: 'Processor time of the gateway by part', head: ['', 'self time'], rows: rows(parts, 30) },
    { title: 'Processor time of the gateway by function', head: ['', 'self time'], rows: rows(functions, top) },
  ]
}
