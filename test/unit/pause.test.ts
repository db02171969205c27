// A wait that an event may end.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Pause } from '../../src/lib/pause.js'

describe('pause', () => {
  it('a pause ends after its time, or when it is ended', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const pause = new Pause()
    const timed = pause.take(1000)
    t.mock.timers.tick(1000)
    assert.equal(await timed, false)
    const ended = pause.take(1000)
    pause.end()
    assert.equal(await ended, true)
  })

  it('an end before the pause is not lost, and counts once', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const pause = new Pause()
    pause.end()
    pause.end()
    assert.equal(await pause.take(), true)
    const next = pause.take(1000)
    t.mock.timers.tick(1000)
    assert.equal(await next, false)
  })
})
