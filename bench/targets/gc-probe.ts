// Loaded into a server before its program: on request of the benchmark it collects the garbage and reports the bytes that are
// still in use. It changes nothing else.

import cluster from 'node:cluster'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** The IPC message that a server answers with the bytes of its objects and buffers. */
export const HEAP_REQUEST = 'bench: heap'

const answerHeapRequest = (message: unknown) => {
  if (message !== HEAP_REQUEST) return
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  collect() // frees objects that the first collection only finalized
  const { heapUsed, external } = process.memoryUsage()
  process.send?.(heapUsed + external)
}
// The IPC channel of a worker leads to its primary, not to the benchmark.
if (!cluster.isWorker) {
  process.on('message', answerHeapRequest)
  process.channel?.unref()
}
