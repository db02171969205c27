// Installs missing packages, builds, and runs the soak test for longer, or with every supported broker.
//   npm run test:soak -- --minutes 60 [--broker system|4.0|4.3|4.3-strict|cluster] [--queue classic|quorum] [--crash]
//   npm run test:matrix    the system's RabbitMQ, 4.0, 4.3, 4.3 without deprecated features, a cluster; classic and quorum queues

import { build, ensurePackages, ensureSystemPackages, root, run } from './project.mjs'

const [what, ...args] = process.argv.slice(2)
await ensurePackages()
await ensureSystemPackages(['rabbitmq-server', 'python3', 'python3-pika'])
await build()
const brokers =
  what === 'matrix' ? ['system', '4.0', '4.3', '4.3-strict', 'cluster'].flatMap((broker) => ['--broker', broker]) : []
await run(process.execPath, ['--enable-source-maps', 'dist/test/soak/main.js', ...brokers, ...args], { cwd: root }).catch(() => {
  process.exitCode = 1 // the soak test has printed the reason
})
