// Signatures between instances: valid for a short time, and only with the shared secret.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { bodyDigest, Signatures } from '../../src/instances/signature.js'

const EPOCH = 'AAAAAAAAAAA'
const body = Buffer.from('{"commands":[]}')
const ours = new Signatures('secret')
const theirs = new Signatures('Secret')

describe('request signature between instances', () => {
  it('a request signature contains the epoch and the digest of the body', () => {
    const header = ours.sign(EPOCH, body)
    assert.deepEqual(new Signatures('secret').read(header), { epoch: EPOCH, digest: bodyDigest(body), header })
    assert.match(header, /^[\w .-]+$/)
  })

  it('a request signature with another secret or any change is refused', () => {
    const header = ours.sign(EPOCH, body)
    assert.equal(theirs.read(header), undefined)
    for (let at = 0; at < header.length; at++) {
      const other = header[at] === '1' ? '2' : '1'
      assert.equal(ours.read(header.slice(0, at) + other + header.slice(at + 1)), undefined, String(at))
      assert.equal(ours.read(header.slice(0, at)), undefined)
    }
    for (const nonsense of [undefined, '', 'v1', [header], `${header} `, `${header}\n`, header.repeat(2), 'v1 '.repeat(100)])
      assert.equal(ours.read(nonsense), undefined)
  })

  it('a request signature is valid for 60 s before and after its time', () => {
    const header = ours.sign(EPOCH, body, 1_000_000)
    for (const now of [940_000, 1_000_000, 1_060_000]) assert.ok(ours.read(header, now))
    for (const now of [939_999, 1_060_001]) assert.equal(ours.read(header, now), undefined)
  })
})

describe('response signature between instances', () => {
  it('a response signature is valid only for its request and its body', () => {
    const header = ours.sign(EPOCH, body)
    const answer = Buffer.from('{"results":[]}')
    const signature = ours.signAnswer(header, answer)
    assert.ok(ours.isAnswer(header, answer, signature))
    assert.ok(!ours.isAnswer(header, body, signature))
    assert.ok(!ours.isAnswer(ours.sign(EPOCH, body, 1), answer, signature))
    assert.ok(!theirs.isAnswer(header, answer, signature))
    for (const nonsense of [undefined, '', [signature], `${signature}A`]) assert.ok(!ours.isAnswer(header, answer, nonsense))
  })
})
