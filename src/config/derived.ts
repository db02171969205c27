// What follows from the settings and is needed in more than one place.

import type { Config } from './settings.js'

/** Whether the gateway does not authenticate its callers: AUTH is none, or not set. */
export const isOpen = (AUTH: Config['AUTH']): boolean => AUTH.length === 0 || AUTH.includes('none')

/** Whether the configuration names files that are read again on SIGHUP: keys or certificates. */
export const rereadsFiles = (config: Config): boolean => !isOpen(config.AUTH) || config.TLS_CERT_FILE !== ''

/**
 * How long a lease may last including all of its extensions, in milliseconds: one minute less than the broker's consumer timeout;
 * half of it if it is shorter than two minutes.
 */
export function longestLease(config: Pick<Config, 'BROKER_CONSUMER_TIMEOUT'>): number {
  const timeout = config.BROKER_CONSUMER_TIMEOUT
  return timeout - Math.min(60_000, timeout / 2)
}

/** The longest time from the signal that ends a process until it has ended, in milliseconds. */
export const endTimeout = ({ SHUTDOWN_DELAY, SHUTDOWN_DRAIN }: Pick<Config, 'SHUTDOWN_DELAY' | 'SHUTDOWN_DRAIN'>): number =>
  SHUTDOWN_DELAY + SHUTDOWN_DRAIN + 15_000
