// Loaded into a server before it starts: asked by the benchmark, it collects its garbage and says what is left. It changes
// nothing else.

import cluster from 'node:cluster'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

export const QUESTION = 'bench: what is held?'

const answer = (message: unknown) => {
  if (message !== QUESTION) return
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  collect() // what the first one found to be finalised goes with the second
  const { heapUsed, external } = process.memoryUsage()
  process.send?.(heapUsed + external)
}
// A worker's channel leads to its primary, not here.
if (!cluster.isWorker) {
  process.on('message', answer)
  process.channel?.unref()
}
