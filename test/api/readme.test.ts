// The shell blocks of the README and the API guide, run in order as a reader would paste them. A `json` or `text` block below
// one is its expected output, apart from white space; `…` stands for any text. A block marked `sh problem` shows an error.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshName, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'

// A separate vhost, since the documents use common names.
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
  /** The expected output, if the document shows it. */
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

// One shell runs all blocks, as for the reader, so that variables persist. Here curl fails on an HTTP error and names the call;
// in a block that shows an error it must fail.
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
    it(`the shell blocks of ${file} all run in order`, () => {
      assert.ok(blocks.length > 10, `${blocks.length} blocks`)
      assert.equal(errors, '')
      assert.equal(code, 0)
      assert.equal(outputs.length, blocks.length)
    })

    it(`the shell blocks of ${file} print the shown output`, () => {
      assert.ok(blocks.filter(({ prints }) => prints).length > 5)
      for (const [index, { line, prints }] of blocks.entries()) {
        const output = (outputs[index] ?? '').replace(/\s/g, '')
        if (prints !== undefined) assert.match(output, pattern(prints), `the block in line ${line} prints other output`)
      }
    })

    it(`the shell blocks of ${file} need only a POSIX shell and curl`, () => {
      for (const { line, code } of blocks) {
        assert.doesNotMatch(code, /\b(jq|python3?|bash)\b|\[\[/, `the block in line ${line} needs more than a shell and curl`)
        for (const url of code.matchAll(/(?<!["\S])http:\S*[?&]\S*/g)) assert.fail(`${url} in line ${line} must be quoted`)
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

  it('the README receives the Hello World! that it published', () => {
    assert.match(outputOf('MESSAGE=$(curl'), /"payload":"Hello World!"/)
  })

  it('each of two waiting workers in the README receives a task', () => {
    const output = outputOf('wait $ONE $TWO')
    assert.match(output, /"payload":"task 1"/)
    assert.match(output, /"payload":"task 2"/)
  })

  it('the README shows the redelivery of a message that was not acknowledged', () => {
    assert.match(outputOf('lease=2s'), /"redelivered":false[\s\S]*"redelivered":true/)
  })

  it('the README routes messages through three types of exchange', () => {
    assert.equal(outputOf('by-severity').match(/"routed":true/g)?.length, 3)
  })
})

it('the README and the API guide delete every queue and exchange that they declare', async () => {
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
