// Loaded into a server before it starts: SIGWINCH, which means nothing to a server, collects its
// garbage. It changes nothing else.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

process.on('SIGWINCH', () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  collect() // what the first one found to be finalised goes with the second
})
