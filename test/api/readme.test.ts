// The shell blocks of the README and the API guide, run as a reader would paste them. What stands below a block as `json` or
// `text` has to be what it prints, white space aside, with `…` for anything. A block marked `sh problem` shows an error.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshName, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'

// A vhost of their own: the names in the documents are everybody's.
const vhost = freshName('readme')
await management(`vhosts/${vhost}`, { method: 'PUT' })
const user = encodeURIComponent(decodeURIComponent(new URL(AMQP_URL).username) || 'guest')
await management(`permissions/${vhost}/${user}`, {
  method: 'PUT',
  body: JSON.stringify({ configure: '.*', write: '.*', read: '.*' }),
})
const gateway = await startGateway({ AMQP_URL: new URL(`/${vhost}`, AMQP_URL).href })
const folder = mkdtempSync(join(tmpdir(), 'readme-'))
after(async () => {
  rmSync(folder, { recursive: true })
  await gateway.close()
  await management(`vhosts/${vhost}`, { method: 'DELETE' })
})

interface Block {
  line: number
  code: string
  showsAnError: boolean
  /** What it prints, where the document says so. */
  prints: string | undefined
}

const FENCE = /^```(\w+)[ ]?(\w*)\n([\s\S]*?)^```$/gm

function blocksOf(file: string): Block[] {
  const text = readFileSync(file, 'utf8')
  const fences = [...text.matchAll(FENCE)]
  return fences.flatMap(([all, language, mark, code], index) => {
    if (language !== 'sh') return []
    const start = fences[index]!.index
    const next = fences[index + 1]
    const follows = next && /^\s*$/.test(text.slice(start + all.length, next.index)) && /^(json|text)$/.test(next[1]!)
    return {
      line: text.slice(0, start).split('\n').length,
      code: code!.replaceAll('http://127.0.0.1:8080', gateway.url).replaceAll('/vhosts/%2F', `/vhosts/${vhost}`),
      showsAnError: mark === 'problem',
      prints: follows
        ? next[3]!.replaceAll('"vhost": "/"', `"vhost": "${vhost}"`).replace("vhost '/'", `vhost '${vhost}'`)
        : undefined,
    }
  })
}

// One shell for all blocks, as the reader has: variables live on. curl fails here where HTTP does, and says which call it was;
// in a block that shows an error it has to.
const PRELUDE = `set -e
curl() {
  status=0
  command curl -s --fail-with-body --max-time 60 "$@" || status=$?
  [ "$status" = "$EXPECTED" ] || { echo "curl $* ended with $status, not $EXPECTED" >&2; return 1; }
}
`
const MARK = '\u0001'

async function run(blocks: Block[]): Promise<{ outputs: string[]; errors: string; code: number | null }> {
  const script = blocks.map(({ code, showsAnError }) => `printf '${MARK}'\nEXPECTED=${showsAnError ? 22 : 0}\n${code}`)
  const shell = spawn('/bin/sh', ['-c', PRELUDE + script.join('')], { cwd: folder })
  let output = ''
  let errors = ''
  shell.stdout.setEncoding('utf8').on('data', (text) => {
    output += text
  })
  shell.stderr.setEncoding('utf8').on('data', (text) => {
    errors += text
  })
  const code = await new Promise<number | null>((resolve, reject) => shell.on('error', reject).on('close', resolve))
  return { outputs: output.split(MARK).slice(1), errors, code }
}

function pattern(prints: string): RegExp {
  const parts = prints.replace(/\s/g, '').split('…')
  return new RegExp(`^${parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*?')}$`)
}

const documents = await Promise.all(
  ['README.md', 'docs/api.md'].map(async (file) => {
    const blocks = blocksOf(file)
    return { file, blocks, ...(await run(blocks)) }
  }),
)

for (const { file, blocks, outputs, errors, code } of documents) {
  describe(file, () => {
    it('has shell blocks that all work as pasted, in order', () => {
      assert.ok(blocks.length > 10, `${blocks.length} blocks`)
      assert.equal(errors, '')
      assert.equal(code, 0)
      assert.equal(outputs.length, blocks.length)
    })

    it('says what they print', () => {
      assert.ok(blocks.filter(({ prints }) => prints).length > 5)
      for (const [index, { line, prints }] of blocks.entries()) {
        const output = (outputs[index] ?? '').replace(/\s/g, '')
        if (prints !== undefined) assert.match(output, pattern(prints), `the block in line ${line} prints something else`)
      }
    })

    it('calls the gateway with curl alone', () => {
      for (const { line, code } of blocks) {
        assert.doesNotMatch(code, /\b(jq|python3?|bash)\b|\[\[/, `the block in line ${line} needs more than a shell and curl`)
        for (const url of code.matchAll(/(?<!["\S])http:\S*[?&]\S*/g)) assert.fail(`${url} in line ${line} has to be quoted`)
      }
    })
  })
}

describe('the work queue in the README', () => {
  const outputOf = (part: string): string => {
    const { blocks, outputs } = documents[0]!
    const index = blocks.findIndex(({ code }) => code.includes(part))
    assert.notEqual(index, -1, `no block has ${part}`)
    return outputs[index]!
  }

  it('brings Hello World! from a publish to a receive', () => {
    assert.match(outputOf('MESSAGE=$(curl'), /"payload":"Hello World!"/)
  })

  it('gives each of two waiting workers a task', () => {
    const output = outputOf('wait $ONE $TWO')
    assert.match(output, /"payload":"task 1"/)
    assert.match(output, /"payload":"task 2"/)
  })

  it('brings a message back whose worker never acknowledges', () => {
    assert.match(outputOf('lease=2s'), /"redelivered":false[\s\S]*"redelivered":true/)
  })

  it('routes through an exchange of every type', () => {
    assert.equal(outputOf('by-severity').match(/"routed":true/g)?.length, 3)
  })
})

it('leaves nothing behind', async () => {
  await eventually(async () => {
    const queues = await management<{ name: string }[]>(`queues/${vhost}`)
    const exchanges = await management<{ name: string }[]>(`exchanges/${vhost}`)
    assert.deepEqual(
      queues.map(({ name }) => name).filter((name) => !name.startsWith('gateway.')),
      [],
    )
    assert.deepEqual(
      exchanges.map(({ name }) => name).filter((name) => name !== '' && !/^(amq|gateway)[.]/.test(name)),
      [],
    )
  })
})
