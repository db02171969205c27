// All cases, in the order in which they run.

import type { Case } from '../comparison.js'
import type { Options } from '../options.js'
import { batchCases } from './batch.js'
import { growthCases } from './growth.js'
import { idleCases } from './idle.js'
import { instanceCases } from './instances.js'
import { largeCases } from './large.js'
import { publishCases } from './publish.js'
import { receiveCases } from './receive.js'
import { rpcCases } from './rpc.js'
import { streamCases } from './stream.js'

/** All cases of the benchmark. */
export const cases: Case[] = [
  ...publishCases,
  ...batchCases,
  ...receiveCases,
  ...streamCases,
  ...rpcCases,
  ...instanceCases,
  ...idleCases,
  ...largeCases,
  ...growthCases,
]

/** The cases that the options select. A case on request needs an --only that contains "hour". */
export function selectCases(all: Case[], { quick, only }: Pick<Options, 'quick' | 'only'>): Case[] {
  return all.filter((one) => {
    const named = only.some((text) => one.name.toLowerCase().includes(text.toLowerCase()))
    if (one.onRequest) return named && only.some((text) => text.toLowerCase().includes('hour'))
    return (only.length === 0 || named) && (!quick || one.quick || named)
  })
}
