// The command that makes an API key: `npm run key`, or `node dist/src/key.js` where there is only the built gateway.

import { createKey, USAGE } from './access/create-key.js'
import { KeyFileError } from './access/key-file.js'

try {
  const { key, entry } = createKey(process.argv.slice(2))
  console.log(`The key. It is shown this once, and is kept nowhere:\n\n${key}\n`)
  console.log(`Its entry, for the "keys" of the file that API_KEYS_FILE names:\n\n${JSON.stringify(entry, null, 2)}`)
} catch (error) {
  const mistakes = error instanceof KeyFileError ? error.mistakes : [(error as Error).message]
  console.error(`${mistakes.map((mistake) => mistake.replace('keys[0].', '')).join('\n')}\n\n${USAGE}`)
  process.exitCode = 64 // EX_USAGE of sysexits.h
}
