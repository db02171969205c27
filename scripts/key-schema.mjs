// Writes docs/api-keys.schema.json, the JSON Schema of the API key file, from the built gateway. A unit test compares the two.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './project.mjs'

const { keyFileJsonSchema } = await import(join(root, 'dist', 'src', 'access', 'key-file-schema.js'))
writeFileSync(join(root, 'docs', 'api-keys.schema.json'), `${JSON.stringify(keyFileJsonSchema(), null, 2)}\n`)
console.log('docs/api-keys.schema.json is written')
